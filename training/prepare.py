"""Make the training's crops and manifests from the data folder: `python -m training prepare`.

Every source goes through one path: found by the detector that ships, framed with the margin that ships, resized to
one size, stored at one JPEG quality. DFDC comes as crops of that framing already (measured: its crops are the
detector's boxes with a margin of 0.00); only its landmarks are added. A picture that stands there twice, or nearly
equals one of a later split (train, val, test), is left out and noted in SOURCE-left-out.csv (training/duplicates.py).
"""

import argparse
import csv
import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.faces import FaceDetector, as_box
from training.data import (
    LABELS,
    DataError,
    Example,
    Pixels,
    data_folder,
    manifest_rows,
    open_pictures,
    read_manifest,
    read_rgb,
)
from training.duplicates import find_duplicates
from training.facecrops import LANDMARKS, cut_all, open_detector, write_rows

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
    for example in read_manifest(manifest, source="dfdc"):
        wanted = example.label == LABELS["real"] and example.split == "train"
        where = crop_landmarks(detector, read_rgb(example, pictures)) if wanted else ()
        yield row_of(dataclasses.replace(example, landmarks=where))


def row_of(example: Example) -> list[str]:
    """An example as a manifest's row (COLUMNS)."""
    label = next(name for name, number in LABELS.items() if number == example.label)
    landmarks = " ".join(f"{x:.4f}" for x in example.landmarks)
    width = str(example.source_width)
    return [example.file, label, example.group, example.split, example.source, width, landmarks]


def prepare(out: Path) -> None:
    """Write OUT/{dfdc,ffhq,street}.csv and the crops of the latter two; what is there already stays."""
    data = data_folder()
    ffhq, street, dfdc = out / "ffhq", out / "street", data / "dfdc_faces_224.zip"
    for folder in (ffhq, street):
        folder.mkdir(parents=True, exist_ok=True)
    for name, root, rows in (
        ("ffhq", ffhq, cut_all(data / "ffhq_stylegan_256.zip", ffhq, "ffhq", MARGIN)),
        ("street", street, cut_all(data / "face_boxes.zip", street, "street", MARGIN, STREET_LEAST)),
        ("dfdc", dfdc, dfdc_rows(dfdc.with_suffix(".csv"), dfdc)),
    ):
        if not (out / f"{name}-left-out.csv").exists():  # written last
            write_source(out, name, root, rows)


def write_source(out: Path, name: str, root: Path, rows: Iterable[list[str]]) -> None:
    """Write OUT/NAME.csv without the duplicates among `rows`, whose pictures lie in `root`, and NAME-left-out.csv."""
    whole = out / f"{name}-whole.csv"
    write_rows(whole, rows)
    examples = read_manifest(whole)
    found = find_duplicates(examples, open_pictures(root))
    left_out = {duplicate.example for duplicate in found}
    write_rows(out / f"{name}.csv", (row_of(example) for example in examples if example not in left_out))
    with (out / f"{name}-left-out.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("file", "split", "shows", "shows_split", "bits"))
        table.writerows((d.example.file, d.example.split, d.shows.file, d.shows.split, d.bits) for d in found)
    whole.unlink()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--out", type=Path, default=OUT, help="folder for manifests and crops (default: var/data)")


def main(args: argparse.Namespace) -> int:
    """Run the command; 2 when the data cannot be used."""
    try:
        prepare(args.out)
        for name in ("dfdc", "ffhq", "street"):
            examples = read_manifest(args.out / f"{name}.csv")
            real = sum(example.label == LABELS["real"] for example in examples)
            bits = [int(row["bits"]) for _, row in manifest_rows(args.out / f"{name}-left-out.csv")]
            same = sum(apart < 0 for apart in bits)
            sys.stdout.write(
                f"{name}: {real} real, {len(examples) - real} fake;"
                f" left out {same} with the bytes of another, {len(bits) - same} that nearly equal a held-out picture\n"
            )
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0
