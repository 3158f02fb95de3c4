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

from pipeline.batching import run_in_batches
from pipeline.crops import resize
from pipeline.engine import Engine, OnnxEngine
from pipeline.weights import MODELS, load_card
from training.data import DataError, Example, Pictures, decode_rgb, open_pictures, read_manifest
from training.metrics import figures

BATCH = 32
CARD = MODELS / "shield-lite0.json"
TARGET_AUC = 0.90


def crop_logits(
    engine: Engine, examples: list[Example], pictures: Pictures, progress: bool = False
) -> NDArray[np.float32]:
    """Logits [N] of face crops: each picture whole is the face, resized as a scan resizes its crops."""
    size = engine.card.input_size
    logits: list[NDArray[np.float32]] = []
    for start in range(0, len(examples), BATCH):
        names = [example.file for example in examples[start : start + BATCH]]
        crops = [resize(decode_rgb(pictures.read(name), name), size, size) for name in names]
        logits.append(run_in_batches(engine, crops, BATCH)[0][:, 0])
        if progress and start % (10 * BATCH) == 0:
            sys.stderr.write(f"\r{start + len(names)}/{len(examples)} crops")
            sys.stderr.flush()
    if progress:
        sys.stderr.write(f"\r{len(examples)}/{len(examples)} crops\n")
    return np.concatenate(logits)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--manifest", type=Path, required=True, help="CSV with the columns file,label (real or fake)")
    parser.add_argument("--root", type=Path, required=True, help="folder or zip that the files are in")
    parser.add_argument("--split", help="only the rows of this split")
    parser.add_argument("--card", type=Path, default=CARD, help="the weights card; default: the one that ships")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--target", type=float, default=TARGET_AUC, help="the AUC that must be reached")


def main(args: argparse.Namespace) -> int:
    """Run the command: prints the figures and the bar; 1 when the bar is not held, 2 when the data cannot be used."""
    try:
        examples = read_manifest(args.manifest, args.split)
        card = load_card(args.card)
        logits = crop_logits(OnnxEngine(card), examples, open_pictures(args.root), progress=True)
        measured = figures(np.array([example.label for example in examples]), card.calibration.score(logits))
    except (DataError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    data = f"{args.manifest.name}, split {args.split or 'all'}: {measured.real} real, {measured.fake} fake"
    lines = [
        f"data         {data}",
        f"weights      {card.name} {card.version} ({card.weights_sha256[:12]}), ONNX Runtime",
        f"AUC          {measured.auc:.4f}  (95 % bootstrap interval {measured.auc_low:.4f} to {measured.auc_high:.4f})",
        f"EER          {measured.eer:.4f}",
        f"TPR@FPR=1%   {measured.tpr_at_1_fpr:.4f}",
        f"ECE          {measured.ece:.4f}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    if args.json:
        record = {"data": data, "weights": card.name, "weights_sha256": card.weights_sha256}
        args.json.write_text(json.dumps(record | dataclasses.asdict(measured), indent=2) + "\n", encoding="utf-8")
    holds = measured.auc >= args.target
    sys.stdout.write(f"bar frame_auc {measured.auc:.4f} {args.target} {'holds' if holds else 'falls short'}\n")
    return 0 if holds else 1
