"""Manifests and the pictures they name.

A manifest is a CSV with at least the columns file,label; group, split and source are read where present. Files are
looked up in a root: a folder, or a zip that is read whole into memory (random access without unpacking).
"""

import csv
import os
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [H, W, 3], RGB, 0..255
LABELS = {"real": 0, "fake": 1}


class DataError(Exception):
    """A manifest or a picture cannot be used; the message names the file and the row."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a manifest.

    `group` ties pictures of one origin together, `source` names where they come from, `source_width` is the face's
    width in pixels before it was resized (0: unknown), `landmarks` are x and y of BlazeFace's six points as fractions
    of the crop's side (empty: unknown).
    """

    file: str
    label: int  # 0 real, 1 fake
    group: str
    split: str
    source: str
    source_width: int = 0
    landmarks: tuple[float, ...] = ()


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
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root):
            raise DataError(f"{name} leads outside {self.root}")
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{name} cannot be read in {self.root}: {error.strerror}") from error


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

    Raises DataError, naming the row, for a missing column, an unknown label, a group that stands in two splits, and
    when nothing is left.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    examples = [_example(path, number, row, source or path.stem) for number, row in enumerate(rows, start=2)]
    split_of: dict[str, str] = {}
    for number, example in enumerate(examples, start=2):
        if split_of.setdefault(example.group, example.split) != example.split:
            raise DataError(f"{path}:{number}: group {example.group} stands in two splits: one of them leaks")
    chosen = [example for example in examples if split in (None, example.split)]
    if not chosen:
        raise DataError(f"{path} has no rows" + (f" of split {split}" if split else ""))
    return chosen


def _example(path: Path, number: int, row: dict[str, str], source: str) -> Example:
    if not row.get("file"):
        raise DataError(f"{path}:{number}: no file named; the columns needed are file,label")
    if row.get("label") not in LABELS:
        raise DataError(f"{path}:{number}: label {row.get('label')!r} is neither real nor fake")
    return Example(
        file=row["file"],
        label=LABELS[row["label"]],
        group=row.get("group") or row["file"],
        split=row.get("split") or "",
        source=row.get("source") or source,
        source_width=int(row.get("source_width") or 0),
        landmarks=tuple(float(x) for x in (row.get("landmarks") or "").split()),
    )


def check_sources(examples: list[Example]) -> None:
    """Refuse data in which a source stands under one label only: a model would learn the source, not the forgery."""
    seen = Counter((e.source, e.label) for e in examples)
    for source in {e.source for e in examples}:
        if not (seen[source, 0] and seen[source, 1]):
            raise DataError(
                f"source {source} has {'no fakes' if seen[source, 0] else 'no real faces'}: add the other label"
            )


def decode_rgb(encoded: bytes, name: str) -> Pixels:
    """Decode a trusted data-set picture to RGB [H, W, 3]. Raises DataError when it is not a picture."""
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise DataError(f"{name} is not a picture that can be read")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def data_folder() -> Path:
    """Where the data sets lie: SHIELD_DATA, by default ../shared/data."""
    return Path(os.environ.get("SHIELD_DATA", "../shared/data"))
