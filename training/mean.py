"""The mean of two trainings' weights, as a checkpoint that can be exported or trained on.

Networks that went on from the same weights lie in one basin, and a mean of them is often better than either (Wortsman
et al., "Model soups", arXiv:2203.05482). Batch normalisation's statistics are averaged like the weights.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from training.config import TrainConfig
from training.data import DataError
from training.export import read_checkpoint


def mean_of(checkpoint: Path, other: Path, share: float) -> tuple[dict[str, torch.Tensor], TrainConfig, int]:
    """`share` of a checkpoint's averaged weights and the rest of the other's; the first one's settings and step.

    `other` is a checkpoint or a file of plain weights, fp16 or fp32. `share` lies in (0, 1]. Raises DataError.
    """
    if not 0 < share <= 1:
        raise DataError(f"--share {share:g}: it must lie above 0 and be at most 1")
    state, config, step = read_checkpoint(checkpoint)
    try:
        tensors = load_file(other)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{other} holds no weights: {error}") from error
    second = {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")} or tensors
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in second.items()}:
        raise DataError(f"{other} and {checkpoint} are not weights of the same network")
    return {k: _mix(v, second[k], share) for k, v in state.items()}, config, step


def _mix(one: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    return other.float().lerp(one.float(), share) if one.is_floating_point() else one  # counters are the first's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--checkpoint", type=Path, required=True, help="a step-*.safetensors that training wrote")
    parser.add_argument("--other", type=Path, required=True, help="another one, or weights that shipped")
    parser.add_argument("--share", type=float, default=0.5, help="of the first one's weights, above 0 and at most 1")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")


def main(args: argparse.Namespace) -> int:
    """Run the command; prints the written checkpoint's path. 2 when the weights cannot be averaged."""
    try:
        state, config, step = mean_of(args.checkpoint, args.other, args.share)
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"average.{k}": v.contiguous() for k, v in state.items()}
    save_file(tensors, args.out, {"step": str(step), "config": config.as_json()})
    sys.stdout.write(f"{args.out}\n")
    return 0
