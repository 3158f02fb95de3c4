"""BlazeFace as a torch module (Bazarevsky et al., 2019, arXiv:1907.05047).

A small single-shot detector: a trunk down to stride 16 (8 for `short`), a deeper part down to twice that stride,
and on each of the two feature maps one convolution for scores and one for boxes. It is fully convolutional, so
the same weights serve any input whose sides are multiples of the coarse stride.

`pipeline.engine` imports this module only when the torch engine is asked for: scanning on a CPU needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

FINE_ANCHORS = 2
COARSE_ANCHORS = 6
VALUES_PER_ANCHOR = 16  # box centre and size (4), then x, y of six landmarks (12); all in input pixels


@dataclass(frozen=True, slots=True)
class Layout:
    """The channels of one published variant: (channels out, stride) of every block."""

    stem: int
    fine: tuple[tuple[int, int], ...]
    coarse: tuple[tuple[int, int], ...]
    coarse_residual: bool


LAYOUTS = {
    "short": Layout(
        stem=24,
        fine=((24, 1), (28, 1), (32, 2), (36, 1), (42, 1), (48, 2), (56, 1), (64, 1), (72, 1), (80, 1), (88, 1)),
        coarse=((96, 2), (96, 1), (96, 1), (96, 1), (96, 1)),
        coarse_residual=True,
    ),
    "back": Layout(
        stem=24,
        fine=(*((24, 1),) * 7, (24, 2), *((24, 1),) * 7, (48, 2), *((48, 1),) * 7, (96, 2), *((96, 1),) * 7),
        coarse=((96, 2),),
        coarse_residual=False,
    ),
}


def _pad_same(pixels: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME padding, which puts the odd row and column at the bottom and right."""
    total = kernel - stride
    before = total // 2
    after = total - before
    return F.pad(pixels, (before, after, before, after))


class Block(nn.Module):
    """Depthwise 3x3, pointwise 1x1, and a shortcut that is pooled and zero-padded to fit."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, *, residual: bool) -> None:
        super().__init__()
        self.stride = stride
        self.residual = residual
        self.extra = channels_out - channels_in
        self.depthwise = nn.Conv2d(channels_in, channels_in, 3, stride, groups=channels_in)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels_in, H, W] -> [N, channels_out, H / stride, W / stride]."""
        y: Tensor = self.pointwise(self.depthwise(_pad_same(x, 3, self.stride)))
        if not self.residual:
            return F.relu(y)
        shortcut = F.max_pool2d(x, 2) if self.stride == 2 else x
        if self.extra:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.extra))
        return F.relu(y + shortcut)


def _blocks(channels_in: int, plan: Sequence[tuple[int, int]], *, residual: bool) -> nn.Sequential:
    blocks = []
    for channels_out, stride in plan:
        blocks.append(Block(channels_in, channels_out, stride, residual=residual))
        channels_in = channels_out
    return nn.Sequential(*blocks)


class BlazeFace(nn.Module):
    """The raw detector; `pipeline.detections` turns its outputs into boxes."""

    def __init__(self, variant: str) -> None:
        """`variant`: a key of LAYOUTS."""
        super().__init__()
        layout = LAYOUTS[variant]
        fine_channels, coarse_channels = layout.fine[-1][0], layout.coarse[-1][0]
        # These attributes stand in the order of the published graph's convolutions: conversion relies on it.
        self.stem = nn.Conv2d(3, layout.stem, 5, 2)
        self.fine = _blocks(layout.stem, layout.fine, residual=True)
        self.coarse = _blocks(fine_channels, layout.coarse, residual=layout.coarse_residual)
        self.fine_scores = nn.Conv2d(fine_channels, FINE_ANCHORS, 1)
        self.coarse_scores = nn.Conv2d(coarse_channels, COARSE_ANCHORS, 1)
        self.fine_boxes = nn.Conv2d(fine_channels, FINE_ANCHORS * VALUES_PER_ANCHOR, 1)
        self.coarse_boxes = nn.Conv2d(coarse_channels, COARSE_ANCHORS * VALUES_PER_ANCHOR, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """RGB in [-1, 1], float [N, 3, H, W] -> raw boxes [N, A, 16] in input pixels, logits [N, A, 1].

        Anchors go row by row over the fine map (two a cell), then over the coarse map (six a cell).
        """
        fine = self.fine(F.relu(self.stem(_pad_same(pixels, 5, 2))))
        coarse = self.coarse(fine)
        boxes = _per_anchor(self.fine_boxes(fine), self.coarse_boxes(coarse), VALUES_PER_ANCHOR)
        logits = _per_anchor(self.fine_scores(fine), self.coarse_scores(coarse), 1)
        return boxes, logits


def _per_anchor(fine: Tensor, coarse: Tensor, values: int) -> Tensor:
    """Two maps [N, anchors * values, H, W] -> [N, A, values], the fine map's anchors first."""
    rows = [grid.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, values)) for grid in (fine, coarse)]
    return torch.cat(rows, dim=1)


def load_blazeface(weights: Path, variant: str) -> BlazeFace:
    """BlazeFace with the weights of a safetensors file, as float32 in eval mode, every key matched."""
    network = BlazeFace(variant)
    network.load_state_dict({key: value.float() for key, value in load_file(weights).items()}, strict=True)
    return network.eval()
