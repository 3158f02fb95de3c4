"""Fine-tune BlazeFace on photos with boxes, and measure it out of fold: `python -m training detector --out FOLDER`.

For every fold, `back` learns on the photos of all others (the paper's multi-box loss: SSD, arXiv:1512.02325) and is
measured, like the weights that ship, through the whole detector on the fold's own photos. Landmarks are not annotated:
no loss is laid on them. Started again after a kill, a run goes on where it was and comes to the same weights.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.blazeface import load_blazeface
from pipeline.weights import MODELS, WeightsError, load_card, sha256_of
from training import track
from training.config import TrainConfig, load_config
from training.convert import export_onnx
from training.data import DataError, Pictures, data_folder, open_pictures
from training.detector_data import (
    Batch,
    BoxedPhoto,
    Framing,
    draw_batch,
    folds_of,
    read_boxes,
    scenes_of,
)
from training.detector_metrics import Measured, compare, find_faces, framing_of, look_at_portraits, open_with
from training.detector_page import lines, page
from training.export import LICENCE
from training.train import State, rate_at, resume, save, update_average

NAME = "blazeface-back"
SHIPPED = MODELS / f"{NAME}.json"
CONFIG = Path("training/configs/detector.json")
KEPT_BLOCKS = 16  # of the fine trunk's 24: down to stride 8 all stays, which a few hundred photos would not better
HARD = 3  # negatives a positive: those with the largest loss
BOX_WEIGHT = 2.0  # of the boxes' loss beside the scores'
BETA = 0.1  # of a face's side: where the boxes' loss turns from square to linear


def start(config: TrainConfig) -> State:
    """A fresh fine-tuning of the weights that ship."""
    model, average = (load_blazeface(load_card(SHIPPED).file("safetensors"), "back") for _ in range(2))
    for network in (model, average):
        network.to(config.device).to(memory_format=torch.channels_last)
    for parameter in (*model.stem.parameters(), *model.fine[:KEPT_BLOCKS].parameters()):
        parameter.requires_grad_(False)
    # Without weight decay: it would shrink the landmarks' weights, which have no loss to hold them.
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.peak_rate, weight_decay=0.0)
    return State(model, average, optimiser)


def fine_tune(
    config: TrainConfig, photos: list[BoxedPhoto], pictures: Pictures, framing: Framing, out: Path
) -> dict[str, torch.Tensor]:
    """The averaged weights after all steps, from the newest checkpoint in `out` where there is one."""
    out.mkdir(parents=True, exist_ok=True)
    state = start(config)
    resume(state, out)
    while state.step < config.steps:
        loss = take_step(state, config, draw_batch(config, photos, pictures, framing, state.step))
        if state.step % config.checkpoint_every == 0 or state.step == config.steps:
            save(state, config, out)
        if state.step % 10 == 0:
            sys.stderr.write(f"\r{out.name}: step {state.step}/{config.steps} loss {loss:.4f} ")
            sys.stderr.flush()
    sys.stderr.write("\n")
    return {name: tensor.cpu().contiguous() for name, tensor in state.average.state_dict().items()}


def take_step(state: State, config: TrainConfig, batch: Batch) -> float:
    """One step of the optimiser and of the average; the batch's loss."""
    for group in state.optimiser.param_groups:
        group["lr"] = rate_at(state.step, config)
    pixels = (batch.pixels.to(config.device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    with torch.autocast(config.device, enabled=config.device == "cuda"):
        boxes, logits = state.model(pixels)
    loss = multibox_loss(
        boxes.float(), logits[..., 0].float(), batch.labels.to(config.device), batch.targets.to(config.device)
    )
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(state.model.parameters(), 10.0)
    state.optimiser.step()
    state.step += 1
    update_average(state, min(config.ema, (1 + state.step) / (10 + state.step)))
    return float(loss.detach())


def multibox_loss(
    boxes: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of faces and of the HARD times as many hardest others, and smooth L1 of faces' boxes.

    `boxes` [B, A, 16] in pixels, `logits` [B, A]; `labels` [B, A] and `targets` [B, A, 4] come from `match_anchors`.
    Boxes are compared in shares of the face's side, so that a small face counts as much as a large one.
    """
    faces = labels == 1
    count = max(1, int(faces.sum()))
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, faces.float(), reduction="none")
    others = entropy[labels == 0]
    hardest = others.topk(min(HARD * count, len(others))).values
    side = targets[faces][:, 2:3]
    apart = nn.functional.smooth_l1_loss(boxes[faces][:, :4] / side, targets[faces] / side, beta=BETA, reduction="sum")
    return (entropy[faces].sum() + hardest.sum() + BOX_WEIGHT * apart) / count


def write_weights(state: dict[str, torch.Tensor], facts: dict[str, Any], out: Path) -> Path:
    """Write NAME.safetensors (float16), the same as NAME.onnx, and last the card, NAME.json; the card's path."""
    shipped = load_card(SHIPPED)
    half = {name: tensor.half() for name, tensor in state.items()}
    weights, onnx, card = (out / f"{NAME}.{suffix}" for suffix in ("safetensors", "onnx", "json"))
    save_file(half, weights)
    export_onnx({name: tensor.float() for name, tensor in half.items()}, onnx, "back")
    fixed = {
        "name": NAME,
        "version": f"{shipped.version}+boxes",
        "files": {f.suffix[1:]: {"file": f.name, "sha256": sha256_of(f)} for f in (weights, onnx)},
        "input_size": shipped.input_size,
        "mean": shipped.mean,
        "std": shipped.std,
        "source": f"Fine-tuned here from {NAME} {shipped.version}, weights sha256 {shipped.weights_sha256}",
        "licence": LICENCE,
    }
    partial = card.with_suffix(".partial")
    partial.write_text(json.dumps(fixed | facts, indent=2) + "\n", encoding="utf-8")
    partial.rename(card)
    return card


def tuned(config: TrainConfig, photos: list[BoxedPhoto], pictures: Pictures, framing: Framing, out: Path) -> Path:
    """The card of the weights fine-tuned on these photos, made in `out` unless it is there."""
    card = out / f"{NAME}.json"
    if not card.exists():
        state = fine_tune(config, photos, pictures, framing, out)
        spent = {"photos": str(len(photos)), "crops_seen": str(config.steps * config.batch)}
        write_weights(state, {"trained_on": spent}, out)
    return card


def measure_folds(
    config: TrainConfig, photos: list[BoxedPhoto], pictures: Pictures, folds: int, portraits: Path, out: Path
) -> Measured:
    """Fine-tune on all folds but one, in turn; what the weights that ship and these find, each photo out of fold."""
    fold_of = folds_of(scenes_of(photos, pictures), folds, config.seed)
    shipped = open_with(SHIPPED)
    before = find_faces(shipped, photos, pictures)
    after = list(before)
    portraits_after = []
    framings = []
    for fold in range(folds):
        others = [index for index in range(len(photos)) if fold_of[index] != fold]
        framings.append(framing_of([photos[i] for i in others], [before[i] for i in others]))
        card = tuned(config, [photos[i] for i in others], pictures, framings[-1], out / f"fold-{fold}")
        detector = open_with(card)
        ours = [index for index in range(len(photos)) if fold_of[index] == fold]
        for index, found in zip(ours, find_faces(detector, [photos[i] for i in ours], pictures), strict=True):
            after[index] = found
        portraits_after.append(look_at_portraits(detector, portraits))
    return Measured(photos, before, after, look_at_portraits(shipped, portraits), portraits_after, framings)


def settle(out: Path, settings: dict[str, Any]) -> None:
    """Note what a folder's checkpoints come from. Raises DataError where they come from something else."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "settings.json"
    text = json.dumps(settings, indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise DataError(f"{out} holds a training with other settings or boxes: name another folder, or empty it")
    path.write_text(text, encoding="utf-8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    data = data_folder()
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, weights and figures")
    parser.add_argument("--config", type=Path, default=CONFIG, help="settings as JSON, the device among them")
    parser.add_argument(
        "--folds", type=int, default=5, help="parts of the photos, each measured by the others' weights"
    )
    parser.add_argument("--steps", type=int, help="steps a fold, instead of the config's")
    parser.add_argument("--photos", type=Path, default=data / "face_boxes.zip", help="folder or zip of the photos")
    parser.add_argument("--boxes", type=Path, default=data / "face_boxes.csv", help="CSV of the boxes")
    parser.add_argument("--portraits", type=Path, default=data / "lfw_250.zip", help="portraits that must not suffer")
    parser.add_argument("--weights", action="store_true", help="fine-tune on all photos too: OUT/all holds the weights")
    parser.add_argument("--docs", type=Path, help="a folder: write detector.json and detector.md there")


def main(args: argparse.Namespace) -> int:
    """Run the command: table, verdict, aims. 2 when data or settings cannot be used."""
    try:
        if args.folds < 2:
            raise DataError("--folds: at least 2, one to measure and one to learn from")
        config = load_config(args.config)
        if args.steps:
            config = replace(config, images=args.steps * config.batch)
        photos, pictures = read_boxes(args.boxes), open_pictures(args.photos)
        origin = {"boxes_sha256": sha256_of(args.boxes), "folds": args.folds, "config": json.loads(config.as_json())}
        settle(args.out, origin)
        with track.run("detector", {"out": str(args.out), "folds": args.folds, "steps": config.steps}) as run:
            measured = measure_folds(config, photos, pictures, args.folds, args.portraits, args.out)
            report = compare(measured)
            for name, value in report["aims"].items():
                run.log_result(name, value["after"])
            track.log_table(run, "slices", report["rows"])
            if args.weights:
                framing = framing_of(photos, measured.before)
                tuned(config, photos, pictures, framing, args.out / "all")
    except (DataError, WeightsError, OSError, TypeError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    report = {"settings": origin, **report}
    text = json.dumps(report, indent=2) + "\n"
    (args.out / "detector.json").write_text(text, encoding="utf-8")
    if args.docs:
        (args.docs / "detector.json").write_text(text, encoding="utf-8")
        (args.docs / "detector.md").write_text(page(report), encoding="utf-8")
    sys.stdout.write("\n".join(lines(report)) + "\n")
    return 0
