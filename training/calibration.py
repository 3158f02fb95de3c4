"""Calibration: the two numbers that turn a logit into a probability.

Platt scaling (Platt 1999), which is temperature scaling (Guo et al. 2017, arXiv:1706.04599) with a bias.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.weights import Calibration

# Threshold -> the share of honest validation faces that may reach it, in every source alone.
# `fake_strict` is for those who would rather miss a fake.
FLAGGED_AT_MOST = {"fake": 0.01, "fake_strict": 0.001, "suspect": 0.05}


def fit(labels: NDArray[np.int64], logits: NDArray[np.float32]) -> Calibration:
    """The calibration that makes these labels most likely, both classes weighing the same.

    `labels` 0 or 1, `logits` raw outputs, both [N]. Newton's method; a step that overshoots is halved. Raises
    ValueError unless both labels are there, and when the logits tell nothing.
    """
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        raise ValueError("both labels are needed to calibrate")
    weights = (0.5 / counts)[labels]
    spread = float(np.std(logits)) or 1.0
    inputs = np.stack([logits.astype(np.float64) / spread, np.ones(len(logits))], axis=1)  # [N, 2]
    slope_bias = np.zeros(2)
    for _ in range(100):
        scores = 1 / (1 + np.exp(-inputs @ slope_bias))
        gradient = inputs.T @ (weights * (scores - labels))
        curvature = (inputs * (weights * scores * (1 - scores))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while (
            _loss(labels, weights, inputs @ (slope_bias - step)) > _loss(labels, weights, inputs @ slope_bias) + 1e-12
        ):
            step /= 2
        slope_bias -= step
        if np.abs(step).max() < 1e-9:
            break
    slope, bias = slope_bias
    if slope <= 0:
        raise ValueError("the scores are no better than chance on these labels: there is nothing to calibrate")
    return Calibration(temperature=float(spread / slope), bias=float(bias))


def _loss(labels: NDArray[np.int64], weights: NDArray[np.float64], logits: NDArray[np.float64]) -> float:
    """The weighted negative log-likelihood of labels [N] under logits [N]."""
    return float((weights * (np.logaddexp(0, logits) - labels * logits)).sum())
