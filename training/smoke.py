"""Search, train, export and evaluate on a small slice, in minutes: `python -m training smoke`, `make train-smoke`.

It proves that the road is open from data to weights that scan, not that they are good.
"""

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

from pipeline.weights import MODELS
from training.__main__ import run_command
from training.data import DataError, data_folder

SLICE = 120  # crops of each label for training, and half as many for validation and test
SIZE = 96  # pixels: at 64 the shipped weights, which it starts from, see little more than chance
CROPS = 96  # crops a point of the grid
IMAGES = 640  # crops of the training


def cut_slice(manifest: Path, out: Path) -> None:
    """Write a small manifest with both labels in each split."""
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = []
    for split, count in (("train", SLICE), ("val", SLICE // 2), ("test", SLICE // 2)):
        for label in ("real", "fake"):
            chosen += [row for row in rows if row["split"] == split and row["label"] == label][:count]
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(chosen)


def slice_config(folder: Path) -> Path:
    """Cut the slice from DFDC's crops and write the config of a short training on it; its path. Raises DataError."""
    data = data_folder().resolve()
    manifest = folder / "slice.csv"
    try:
        cut_slice(data / "dfdc_faces_224.csv", manifest)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}. Set SHIELD_DATA to the data folder.") from error
    root = str(data / "dfdc_faces_224.zip")
    source = {"manifest": str(manifest), "root": root, "real": 4, "fake": 4, "blend": 1, "cross": 1}
    # From the shipped weights: so few crops teach a fresh head nothing, and `export` refuses a network at chance.
    start = str(MODELS / "shield-lite0.safetensors")
    short = {"start": start, "input_size": SIZE, "batch": 16, "images": IMAGES, "loaders": 0}
    config = folder / "config.json"
    config.write_text(json.dumps({"sources": [source], **short}), encoding="utf-8")
    return config


def smoke(folder: Path) -> None:
    """Go the whole way in a folder. Raises SystemExit with the step's own code where one fails."""
    config = slice_config(folder)
    _run("search", "--config", config, "--out", folder / "search", "--crops", CROPS)
    _run("train", "--config", folder / "search" / "best.json", "--out", folder / "train")
    checkpoint = folder / "train" / f"step-{IMAGES // 16:07d}.safetensors"
    named = ("--version", "0.0.1", "--spent", "minutes")
    _run("export", "--checkpoint", checkpoint, "--out", folder / "models", *named)
    card = folder / "models" / "shield-lite0.json"
    test = ("--manifest", folder / "slice.csv", "--root", data_folder() / "dfdc_faces_224.zip", "--split", "test")
    _run("evaluate", *test, "--card", card, "--target", "0.3")


def _run(command: str, *words: object) -> None:
    sys.stderr.write(f"--- python -m training {command}\n")
    code = run_command([command, *(str(word) for word in words)])
    if code:
        raise SystemExit(code)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--out", type=Path, help="keep what is made in this folder (default: a temporary one)")


def main(args: argparse.Namespace) -> int:
    """Run the command; 2 when the data is not there, else the code of the step that failed."""
    try:
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            smoke(args.out.resolve())
        else:
            with tempfile.TemporaryDirectory() as folder:
                smoke(Path(folder))
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("what was tracked:\n")
    return run_command(["runs"])
