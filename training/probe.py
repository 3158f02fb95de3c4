"""Which source is it? Whether a network knows where an honest face comes from, and whether its score depends on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.classifier import prepare
from training.augment import evaluation_transform
from training.data import Example, Pictures, read_rgb
from training.metrics import Scores, auc
from training.train import MEAN, STD

Features = NDArray[np.float64]  # [N, C]
BATCH = 32
PENALTY = 1e-2  # of the squared weights, on standardised features


def look(network: nn.Module, size: int, examples: Sequence[Example], pictures: Pictures) -> tuple[Features, Scores]:
    """Pooled features [N, C], the head's input, and P(fake) [N], not calibrated. Raises DataError."""
    seen: list[torch.Tensor] = []
    scores: list[torch.Tensor] = []

    def keep(_head: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])

    transform = evaluation_transform(size)
    hook = network.get_submodule("_fc").register_forward_pre_hook(keep)
    network.eval()
    try:
        for start in range(0, len(examples), BATCH):
            crops = [read_rgb(example, pictures) for example in examples[start : start + BATCH]]
            pixels = torch.stack([transform(torch.from_numpy(crop).permute(2, 0, 1)) for crop in crops])
            batch = prepare(pixels, MEAN, STD).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                scores.append(network(batch)[:, 0].sigmoid())
    finally:
        hook.remove()
    return torch.cat(seen).double().numpy(), torch.cat(scores).double().numpy()


def probe_auc(
    known: Features, known_source: NDArray[np.int64], asked: Features, asked_source: NDArray[np.int64]
) -> float:
    """AUC at telling two sources (0, 1) apart in `asked` by a linear probe that was fitted on `known`."""
    weights, bias, mean, spread = _fit(known, known_source)
    logits = ((asked - mean) / spread) @ weights + bias
    return auc(asked_source, logits)


def _fit(features: Features, source: NDArray[np.int64]) -> tuple[Features, float, Features, Features]:
    """Logistic regression with a ridge; both sources count the same, however many pictures they have."""
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    inputs = torch.from_numpy((features - mean) / spread)
    labels = torch.from_numpy(source.astype(np.float64))
    balance = torch.where(labels > 0, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    weights = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        fit = nn.functional.binary_cross_entropy_with_logits(inputs @ weights + bias, labels, balance)
        total = fit + PENALTY * weights.square().sum()
        total.backward()
        return total

    optimiser.step(loss)
    return weights.detach().numpy(), float(bias.detach()), mean, spread
