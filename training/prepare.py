"""Make the training's crops and manifests from the data folder: `python -m training prepare`.

Every source goes through one path: found by the detector that ships, framed with the margin that ships, resized to
one size, stored at one JPEG quality. DFDC comes as crops of that framing already (measured: its crops are the
detector's boxes with a margin of 0.00); only its landmarks are added. What nearly equals a picture of another split
is left out.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.faces import FaceDetector, as_box
from training.data import DataError, Example, Pixels, data_folder, decode_rgb, open_pictures, read_manifest
from training.facecrops import LANDMARKS, open_detector, write_crops, write_rows

OUT = Path("var/data")
MARGIN = 0.0  # of the box's longer side: what DFDC's crops have
STREET_LEAST = 40  # pixels: smaller faces of street scenes hold too little to learn from


def crop_landmarks(detector: FaceDetector, crop: Pixels) -> tuple[float, ...]:
    """The six landmarks of a face that fills its crop, as fractions of the crop's side; empty where none is found."""
    side = crop.shape[0]
    border = side // 4  # faces that touch the border are found only with something around them
    padded = np.asarray(cv2.copyMakeBorder(crop, border, border, border, border, cv2.BORDER_REFLECT_101), np.uint8)
    centre = border + side / 2
    for detection in detector.find([padded])[0]:
        box = as_box(detection)
        if box.left < centre < box.left + box.width and box.top < centre < box.top + box.height:
            points = (detection[LANDMARKS].reshape(6, 2) - border) / side
            return tuple(float(x) for x in points.ravel())
    return ()


def dfdc_rows(manifest: Path, root: Path) -> Iterator[list[str]]:
    """The manifest's rows with landmarks for the real training faces: those that blends are made from."""
    detector, pictures = open_detector(), open_pictures(root)
    with manifest.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            where: tuple[float, ...] = ()
            if row["label"] == "real" and row["split"] == "train":
                where = crop_landmarks(detector, decode_rgb(pictures.read(row["file"]), row["file"]))
            fixed = [row[name] for name in ("file", "label", "group", "split")]
            yield [*fixed, "dfdc", row["source_width"], " ".join(f"{x:.4f}" for x in where)]


def prepare(out: Path) -> None:
    """Write OUT/{dfdc,ffhq,street}.csv and the crops of the latter two; what is there already stays."""
    data = data_folder()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "ffhq.csv").exists():
        write_crops(data / "ffhq_stylegan_256.zip", out / "ffhq", MARGIN)
    if not (out / "street.csv").exists():
        write_crops(data / "face_boxes.zip", out / "street", MARGIN, STREET_LEAST)
    if not (out / "dfdc.csv").exists():
        rows = dfdc_rows(data / "dfdc_faces_224.csv", data / "dfdc_faces_224.zip")
        write_rows(out / "dfdc.csv", rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--out", type=Path, default=OUT, help="folder for manifests and crops (default: var/data)")


def main(args: argparse.Namespace) -> int:
    """Run the command; 2 when the data cannot be used."""
    try:
        prepare(args.out)
        for name in ("dfdc", "ffhq", "street"):
            examples: list[Example] = read_manifest(args.out / f"{name}.csv")
            real = sum(example.label == 0 for example in examples)
            sys.stdout.write(f"{name}: {real} real, {len(examples) - real} fake\n")
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0
