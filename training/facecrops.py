"""Cut the faces out of a data set's photos, framed as a scan frames them, and write their manifest.

`python -m training crops --root DIR_OR_ZIP --out FOLDER`
"""

import argparse
import csv
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.crops import square_crop
from pipeline.engine import OnnxEngine
from pipeline.faces import FaceDetector, as_box
from pipeline.results import Box
from pipeline.weights import MODELS, load_card
from training.data import LABELS, DataError, Pixels, decode_rgb, open_pictures

SIDE = 224  # pixels of a stored crop
QUALITY = 92  # JPEG quality of a stored crop: the same for every source and label
SPLIT_STEPS = 800
COLUMNS = ("file", "label", "group", "split", "source", "source_width", "landmarks")
LANDMARKS = slice(4, 16)  # of a detection: six points, x and y in pixels
# Of val so much that one honest portrait in a hundred may stand above a threshold of 1 %: with fewer than a hundred
# portraits none may, and a single odd one sets the threshold for all sources.
SHARES = ((0.7, "train"), (0.85, "val"), (1.0, "test"))


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """A face cut out of its photo: pixels, landmarks (x, y of six points as fractions of its side), width in pixels."""

    crop: Pixels
    landmarks: tuple[float, ...]
    width: int


def split_of(group: str) -> str:
    """The split of a group, the same at every run: 70 % train, 15 % val, 15 % test by the hash of its name."""
    place = (zlib.crc32(group.encode()) % SPLIT_STEPS) / SPLIT_STEPS
    return next(split for limit, split in SHARES if place < limit)


def label_of(name: str) -> str:
    """`real` or `fake` from the first folder of a name; real where no folder says so."""
    folder = name.split("/", 1)[0]
    return folder if folder in LABELS else "real"


def open_detector() -> FaceDetector:
    """The detector that ships, as it ships."""
    back, short = (OnnxEngine(load_card(MODELS / f"blazeface-{kind}.json")) for kind in ("back", "short"))
    return FaceDetector(back, short)


def faces_of(detector: FaceDetector, photo: Pixels, margin: float, least: int = 0) -> list[FaceCrop]:
    """The faces of a photo, largest first: crops [SIDE, SIDE, 3] with their landmarks.

    With `least`, only faces of at least so many pixels. A border is mirrored around the photo first: data sets of
    portraits cut closer than the detector likes.
    """
    border = max(photo.shape[:2]) // 5
    padded = np.asarray(cv2.copyMakeBorder(photo, border, border, border, border, cv2.BORDER_REFLECT_101), np.uint8)
    found = []
    for detection in detector.find([padded])[0]:
        box = as_box(detection)
        width = max(box.width, box.height)
        if width < least or not _inside(box, border, photo.shape):
            continue
        side = width * (1 + 2 * margin)
        corner = (box.left + box.width / 2 - side / 2, box.top + box.height / 2 - side / 2)
        landmarks = (detection[LANDMARKS].reshape(6, 2) - corner) / side
        crop = square_crop(padded, box, margin, SIDE)
        found.append(FaceCrop(crop, tuple(float(x) for x in landmarks.ravel()), round(width)))
    return sorted(found, key=lambda face: -face.width)


def _inside(box: Box, border: int, shape: tuple[int, ...]) -> bool:
    """Whether a face's centre lies in the photo itself: its mirror image in the border is no face of its own."""
    x, y = box.left + box.width / 2 - border, box.top + box.height / 2 - border
    return 0 <= x < shape[1] and 0 <= y < shape[0]


def cut_all(root: Path, out: Path, source: str, margin: float, least: int = 0) -> Iterator[list[str]]:
    """Write the crops of a data set's photos; yields the manifest's rows (COLUMNS).

    The largest face of each photo; with `least`, every face of at least so many pixels. The faces of one photo are a
    group.
    """
    detector = open_detector()
    pictures = open_pictures(root)
    for name in photo_names(root):
        faces = faces_of(detector, decode_rgb(pictures.read(name), name), margin, least)
        if not faces:
            sys.stderr.write(f"{name}: no face found, left out\n")
            continue
        group = name.replace("/", "_").rsplit(".", 1)[0]
        for number, face in enumerate(faces if least else faces[:1]):
            file = f"{group}-{number}.jpg" if least else f"{group}.jpg"
            cv2.imwrite(
                str(out / file), cv2.cvtColor(face.crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
            )
            where = " ".join(f"{x:.4f}" for x in face.landmarks)
            yield [file, label_of(name), group, split_of(f"{group}.jpg"), source, str(face.width), where]


def write_crops(root: Path, out: Path, margin: float, least: int = 0) -> int:
    """Cut a data set's faces into the folder `out` and write OUT.csv; the number of crops."""
    out.mkdir(parents=True, exist_ok=True)
    return write_rows(out.with_suffix(".csv"), cut_all(root, out, out.name, margin, least))


def write_rows(manifest: Path, rows: Iterable[list[str]]) -> int:
    """Write a manifest in one rename; the number of its rows."""
    partial = manifest.with_suffix(".partial")
    count = 0
    with partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in rows:
            table.writerow(row)
            count += 1
            if count % 50 == 0:
                sys.stderr.write(f"\r{manifest.stem}: {count} crops")
    partial.rename(manifest)
    sys.stderr.write(f"\r{manifest.stem}: {count} crops\n")
    return count


def photo_names(root: Path) -> list[str]:
    """The names of the photos in a folder or zip, in order."""
    if root.is_dir():
        names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    else:
        with zipfile.ZipFile(root) as archive:
            names = archive.namelist()
    return sorted(name for name in names if name.lower().endswith((".jpg", ".jpeg", ".png", ".webp")))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--root", type=Path, required=True, help="folder or zip of photos; top folders real/ and fake/ label them"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the crops; the manifest is written to OUT.csv"
    )
    parser.add_argument(
        "--margin", type=float, default=0.0, help="what a crop adds to the box on each side, of its longer side"
    )
    parser.add_argument(
        "--every", type=int, default=0, metavar="PX", help="every face of at least PX pixels, not the largest alone"
    )


def main(args: argparse.Namespace) -> int:
    """Run the command; 2 when the data cannot be used."""
    try:
        count = write_crops(args.root, args.out, args.margin, args.every)
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{count} crops in {args.out}, manifest {args.out.with_suffix('.csv')}\n")
    return 0
