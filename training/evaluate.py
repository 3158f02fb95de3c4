"""Measure the shipped weights through the shipped engine on any labelled crops.

`python -m training evaluate --manifest CSV --root DIR_OR_ZIP [--split test] [--json OUT]`
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.engine import OnnxEngine
from pipeline.weights import load_card
from training.bars import Bar
from training.data import LABELS, DataError, open_pictures, read_manifest
from training.metrics import figures
from training.subject import CARD, crop_logits

TARGET_AUC = 0.90
HONEST_LIMIT = 0.03  # of honest faces alone: the share that may be flagged fake
FOUND_LEAST = 0.30  # of fakes alone: the share that should be


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--manifest", type=Path, required=True, help="CSV with the columns file,label (real or fake)")
    parser.add_argument("--root", type=Path, required=True, help="folder or zip that the files are in")
    parser.add_argument("--split", help="only the rows of this split")
    parser.add_argument("--card", type=Path, default=CARD, help="the weights card; default: the one that ships")
    parser.add_argument("--file", choices=("onnx", "onnx-int8"), default="onnx", help="which file of the card's")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--target", type=float, default=TARGET_AUC, help="the AUC that must be reached")


def main(args: argparse.Namespace) -> int:
    """Run the command: prints figures and a bar; 1 when the bar is not held, 2 when the data cannot be used."""
    try:
        examples = read_manifest(args.manifest, args.split)
        card = load_card(args.card)
        logits = crop_logits(OnnxEngine(card, file=args.file), examples, open_pictures(args.root), progress=True)
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    labels, scores = np.array([example.label for example in examples]), card.calibration.score(logits)
    record: dict[str, object] = {
        "data": f"{args.manifest.name}, split {args.split or 'all'}",
        "weights": f"{card.name} {card.version}, sha256 {card.weights_sha256}",
        **_flagged(labels, scores, card.thresholds),
    }
    if len(set(labels)) == len(LABELS):
        record |= dataclasses.asdict(figures(labels, scores))
    for name, figure in record.items():
        sys.stdout.write(f"{name:22} {figure:.4f}\n" if isinstance(figure, float) else f"{name:22} {figure}\n")
    if args.json:
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return _verdict(record, args.target)


def _flagged(labels: NDArray[np.int64], scores: NDArray[np.float64], thresholds: dict[str, float]) -> dict[str, float]:
    """The share of each label's crops that reach each shipped threshold."""
    shares: dict[str, float] = {}
    for label, number in LABELS.items():
        of_label = scores[labels == number]
        if len(of_label):
            shares |= {f"{label}_flagged_{name}": float((of_label >= at).mean()) for name, at in thresholds.items()}
    return shares


def _verdict(record: dict[str, object], target: float) -> int:
    """Print the bar; the exit code. Honest faces alone have no ROC: what counts is how few of them are flagged."""
    if "auc" in record:
        bar = Bar("frame_auc", float(str(record["auc"])), target)
        sys.stdout.write("\n".join(bar.lines()) + "\n")
        return 0 if bar.holds else 1
    honest = "real_flagged_fake" in record
    name, limit = ("real_flagged_fake", HONEST_LIMIT) if honest else ("fake_flagged_fake", FOUND_LEAST)
    share = float(str(record[name]))
    reached = share <= limit if honest else share >= limit
    sys.stdout.write(f"aim {name} {share:.4f} {limit} {'reached' if reached else 'short'}\n")
    return 0
