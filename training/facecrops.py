"""Cut the faces out of a data set's photos, framed as a scan frames them, and write their manifest.

`python -m training crops --root DIR_OR_ZIP --out FOLDER`
"""

import argparse
import csv
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.crops import square_crop
from pipeline.engine import OnnxEngine
from pipeline.faces import FaceDetector, as_box
from pipeline.weights import MODELS, load_card
from training.data import LABELS, DataError, Pixels, decode_rgb, open_pictures

SIDE = 224  # pixels of a stored crop
QUALITY = 92  # JPEG quality of a stored crop: the same for every source and label
SPLIT_STEPS = 800
SHARES = ((0.7, "train"), (0.8, "val"), (1.0, "test"))


def split_of(group: str) -> str:
    """The split of a group, the same at every run: 70 % train, 10 % val, 20 % test by the hash of its name."""
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


def main_face(detector: FaceDetector, photo: Pixels, margin: float) -> Pixels | None:
    """The largest face of a photo as a crop [SIDE, SIDE, 3]; None where there is none.

    A border is mirrored around the photo first: data sets of portraits cut closer than the detector likes.
    """
    border = max(photo.shape[:2]) // 5
    padded = np.asarray(cv2.copyMakeBorder(photo, border, border, border, border, cv2.BORDER_REFLECT_101), np.uint8)
    boxes = [as_box(detection) for detection in detector.find([padded])[0]]
    if not boxes:
        return None
    return square_crop(padded, max(boxes, key=lambda box: box.width * box.height), margin, SIDE)


def cut_all(root: Path, out: Path, source: str, margin: float) -> Iterator[tuple[str, str, str, str, str]]:
    """Write a crop for each photo with a face; yields the manifest's rows (file, label, group, split, source)."""
    detector = open_detector()
    pictures = open_pictures(root)
    for name in _photos(root):
        crop = main_face(detector, decode_rgb(pictures.read(name), name), margin)
        if crop is None:
            sys.stderr.write(f"{name}: no face found, left out\n")
            continue
        file = name.replace("/", "_").rsplit(".", 1)[0] + ".jpg"
        cv2.imwrite(str(out / file), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        yield file, label_of(name), file, split_of(file), source


def _photos(root: Path) -> list[str]:
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
        "--margin", type=float, default=0.15, help="what a crop adds to the box on each side, of its longer side"
    )


def main(args: argparse.Namespace) -> int:
    """Run the command; 2 when the data cannot be used."""
    args.out.mkdir(parents=True, exist_ok=True)
    manifest = args.out.with_suffix(".csv")
    count = 0
    try:
        with manifest.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("file", "label", "group", "split", "source"))
            for row in cut_all(args.root, args.out, args.out.name, args.margin):
                rows.writerow(row)
                count += 1
                if count % 50 == 0:
                    sys.stderr.write(f"\r{count} crops")
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"\n{count} crops in {args.out}, manifest {manifest}\n")
    return 0
