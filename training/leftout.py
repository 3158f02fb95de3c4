"""What a network finds without ever having seen it: `python -m training leave-one-out --checkpoint FILE --name NAME`.

Measures the averaged weights of a checkpoint that does not ship, with the four looks of the classifier, and notes the
figures under its name in docs/leave-one-out.json.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.classifier import classifier_of, prepare
from pipeline.crops import resize
from training.bars import Bar
from training.data import DataError, Example, Pictures, data_folder, decode_rgb, open_pictures, read_manifest
from training.export import read_checkpoint
from training.metrics import figures
from training.report import FFHQ, LEFT_OUT
from training.subject import BATCH
from training.train import MEAN, STD


def network_scores(network: torch.nn.Module, size: int, examples: list[Example], pictures: Pictures) -> NDArray[Any]:
    """P(fake) [N] of face crops by a torch network, not calibrated."""
    scores: list[float] = []
    for start in range(0, len(examples), BATCH):
        crops = [resize(decode_rgb(pictures.read(e.file), e.file), size, size) for e in examples[start : start + BATCH]]
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            batch = prepare(pixels, MEAN, STD).contiguous(memory_format=torch.channels_last)
            logits, _ = network(batch)
            scores += logits[:, 0].sigmoid().tolist()
        sys.stderr.write(f"\r{len(scores)}/{len(examples)} crops")
    sys.stderr.write("\n")
    return np.array(scores)


def measure(checkpoint: Path) -> dict[str, Any]:
    """Figures of a checkpoint on DFDC's and FFHQ's test splits."""
    state, config, step = read_checkpoint(checkpoint)
    network = classifier_of(state, config.input_size).to(memory_format=torch.channels_last)
    tests = {}
    data = data_folder()
    for name, manifest, root in (
        ("DFDC face swaps, test", data / "dfdc_faces_224.csv", data / "dfdc_faces_224.zip"),
        ("StyleGAN against FFHQ, held out", FFHQ.with_suffix(".csv"), FFHQ),
    ):
        examples = read_manifest(manifest, "test")
        scores = network_scores(network, config.input_size, examples, open_pictures(root))
        tests[name] = dataclasses.asdict(figures(np.array([e.label for e in examples]), scores))
    return {"crops_seen": step * config.batch, "input_size": config.input_size, "tests": tests}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--checkpoint", type=Path, required=True, help="a step-*.safetensors that training wrote")
    parser.add_argument("--name", required=True, help="what the figures stand under: the config's name")
    parser.add_argument("--out", type=Path, default=LEFT_OUT, help="the JSON file that collects them")


def main(args: argparse.Namespace) -> int:
    """Run the command; 2 when the data or the checkpoint cannot be used."""
    try:
        measured = measure(args.checkpoint)
    except (DataError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    known = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    args.out.write_text(json.dumps(known | {args.name: measured}, indent=2) + "\n", encoding="utf-8")
    for test, row in measured["tests"].items():
        sys.stdout.write(
            f"{args.name} on {test}: AUC {row['auc']:.4f} ({row['auc_low']:.3f} to {row['auc_high']:.3f})\n"
        )
    if args.name == "self-blends":
        bar = Bar("self_blends_only_dfdc_auc", measured["tests"]["DFDC face swaps, test"]["auc"], 0.62, aim=0.72)
        sys.stdout.write("\n".join(bar.lines()) + "\n")
        return 0 if bar.holds else 1
    return 0
