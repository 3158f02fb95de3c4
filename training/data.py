"""Manifests and the pictures they name.

A manifest is a CSV with at least the columns file,label; group, split and source are read where present. Files are
looked up in a root: a folder, or a zip that is read whole into memory (random access without unpacking).
"""

import csv
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [H, W, 3], RGB, 0..255
LABELS = {"real": 0, "fake": 1}
SPLITS = ("", "train", "val", "test")


class DataError(Exception):
    """A manifest or a picture cannot be used; the message names the file and the row."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a manifest.

    `group` ties pictures of one origin together, `source` names where they come from, `source_width` is the face's
    width in pixels before it was resized (0: unknown), `landmarks` are x and y of BlazeFace's six points as fractions
    of the crop's side (empty: unknown). `where` is its file and line, for messages.
    """

    file: str
    label: int  # 0 real, 1 fake
    group: str
    split: str
    source: str
    source_width: int = 0
    landmarks: tuple[float, ...] = ()
    where: str = ""


class Pictures(Protocol):
    """Encoded pictures by name."""

    def read(self, name: str) -> bytes:
        """The encoded bytes of a picture. Raises DataError when there is none of that name."""
        ...


class FolderPictures:
    """Pictures in a folder; names may not lead outside it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def read(self, name: str) -> bytes:
        """Read the file of this name."""
        try:
            path = (self.root / name).resolve()
            if not path.is_relative_to(self.root):
                raise DataError(f"{name} leads outside {self.root}")
            return path.read_bytes()
        except (OSError, ValueError) as error:  # a ValueError for a name with a null character
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{name} cannot be read in {self.root}: {reason}") from error


class ZipPictures:
    """Pictures in a zip file, held in memory: one seek less a picture, and safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with zipfile.ZipFile(path) as archive:
            self._bytes = {i.filename: archive.read(i) for i in archive.infolist() if not i.is_dir()}

    def read(self, name: str) -> bytes:
        """Give the member of this name."""
        try:
            return self._bytes[name]
        except KeyError:
            raise DataError(f"{name} is not in {self.path}") from None


def open_pictures(root: Path) -> Pictures:
    """The pictures under a root: a folder or a .zip. Raises DataError when it is neither."""
    if root.is_dir():
        return FolderPictures(root)
    if root.is_file() and zipfile.is_zipfile(root):
        return ZipPictures(root)
    raise DataError(f"{root} is neither a folder nor a zip file")


def read_manifest(path: Path, split: str | None = None, source: str | None = None) -> list[Example]:
    """The rows of a manifest, of one split where one is named.

    Raises DataError, naming the row, for a missing column, an unknown label or split, a path that leads outside the
    root, a figure that is none, a group that stands in two splits, and when nothing is left.
    """
    examples = [read_row(path, number, row, source) for number, row in manifest_rows(path)]
    for finding in split_groups(examples):
        raise DataError(finding)
    chosen = [example for example in examples if split in (None, example.split)]
    if not chosen:
        raise DataError(f"{path} has no rows" + (f" of split {split}" if split else ""))
    return chosen


def manifest_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV with their line numbers, as they stand there. Raises DataError when it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(enumerate(csv.DictReader(file), start=2))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8: {error}") from error


def read_row(path: Path, number: int, row: dict[str, str], source: str | None = None) -> Example:
    """One row of a manifest; `source` (by default the manifest's name) where no column says it. Raises DataError."""
    where = f"{path}:{number}"
    name = row.get("file") or ""
    if not name:
        raise DataError(f"{where}: no file named; the columns needed are file,label")
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise DataError(f"{where}: {name} leads outside the root; name files relative to it")
    if row.get("label") not in LABELS:
        raise DataError(f"{where}: label {row.get('label')!r} is neither real nor fake")
    if (row.get("split") or "") not in SPLITS:
        raise DataError(f"{where}: split {row['split']!r} is none of train, val, test")
    try:
        width, landmarks = int(row.get("source_width") or 0), [float(x) for x in (row.get("landmarks") or "").split()]
    except ValueError as error:
        raise DataError(f"{where}: source_width or landmarks: {error}") from error
    if len(landmarks) not in (0, 12):
        raise DataError(f"{where}: {len(landmarks)} landmark figures; needed are x and y of six points, or none")
    return Example(
        file=name,
        label=LABELS[row["label"]],
        group=row.get("group") or name,
        split=row.get("split") or "",
        source=row.get("source") or source or path.stem,
        source_width=width,
        landmarks=tuple(landmarks),
        where=where,
    )


def split_groups(examples: list[Example]) -> Iterator[str]:
    """A message for each example whose group stands in another split too."""
    first: dict[str, Example] = {}
    for example in examples:
        other = first.setdefault(example.group, example)
        if other.split != example.split:
            yield (
                f"{example.where}: group {example.group} stands in two splits: one of them leaks"
                f" ({example.split or 'none'} here, {other.split or 'none'} at {other.where})"
            )


def check_sources(examples: list[Example]) -> None:
    """Refuse data in which a source stands under one label only: a model would learn the source, not the forgery."""
    seen = Counter((e.source, e.label) for e in examples)
    for source in sorted({e.source for e in examples}):
        if not seen[source, LABELS["fake"]]:
            raise DataError(f"source {source} has no fakes: add some, or give it a share of blends")
        if not seen[source, LABELS["real"]]:
            raise DataError(f"source {source} has no real faces: add some")


def decode_rgb(encoded: bytes, name: str) -> Pixels:
    """Decode a trusted data-set picture to RGB [H, W, 3]. Raises DataError when it is not a picture."""
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise DataError(f"{name} is not a picture that can be read")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def read_rgb(example: Example, pictures: Pictures) -> Pixels:
    """The picture of an example, RGB [H, W, 3]. Raises DataError, naming the row, when it cannot be read."""
    try:
        return decode_rgb(pictures.read(example.file), example.file)
    except DataError as error:
        raise DataError(f"{example.where}: {error}" if example.where else str(error)) from error


def data_folder() -> Path:
    """Where the data sets lie: SHIELD_DATA, by default ../shared/data."""
    return Path(os.environ.get("SHIELD_DATA", "../shared/data"))
