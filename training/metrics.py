"""Figures of a binary detector, from scores and labels alone (numpy, no framework).

Labels are 0 (real) or 1 (fake), scores are P(fake) in [0, 1], both of shape [N]. Every function raises ValueError
when one of the two labels is absent, because the figure would then mean nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figures:
    """AUC with its 95 % bootstrap interval, EER, TPR at 1 % FPR, expected calibration error (15 bins)."""

    auc: float
    auc_low: float
    auc_high: float
    eer: float
    tpr_at_1_fpr: float
    ece: float
    real: int
    fake: int


def auc(labels: Labels, scores: Scores) -> float:
    """Area under the ROC curve, ties counted half (the Mann-Whitney statistic)."""
    real, fake = _both(labels, scores)
    order = np.concatenate([real, fake]).argsort(kind="mergesort")
    values = np.concatenate([real, fake])[order]
    _, first, counts = np.unique(values, return_index=True, return_counts=True)
    ranks = np.repeat(first + (counts + 1) / 2, counts)
    rank_of_fakes = ranks[order >= len(real)].sum()
    return float((rank_of_fakes - len(fake) * (len(fake) + 1) / 2) / (len(real) * len(fake)))


def roc(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """False and true positive rates over all thresholds, from (0, 0) to (1, 1)."""
    real, fake = _both(labels, scores)
    order = np.argsort(-scores, kind="mergesort")
    ordered, is_fake = scores[order], labels[order] == 1
    last_of_tie = np.append(np.diff(ordered) != 0, True)
    tpr = np.cumsum(is_fake)[last_of_tie] / len(fake)
    fpr = np.cumsum(~is_fake)[last_of_tie] / len(real)
    return np.append(0.0, fpr), np.append(0.0, tpr)


def eer(labels: Labels, scores: Scores) -> float:
    """The error rate where false positives and misses are equally many."""
    fpr, tpr = roc(labels, scores)
    nearest = int(np.argmin(np.abs(fpr - (1 - tpr))))
    return float((fpr[nearest] + 1 - tpr[nearest]) / 2)


def tpr_at(labels: Labels, scores: Scores, fpr_limit: float) -> float:
    """The share of fakes found at the threshold that flags at most `fpr_limit` of the real ones."""
    fpr, tpr = roc(labels, scores)
    return float(tpr[fpr <= fpr_limit].max())


def ece(labels: Labels, scores: Scores, bins: int = 15) -> float:
    """Expected calibration error over equal-width bins (Guo et al. 2017, arXiv:1706.04599)."""
    _both(labels, scores)
    edges = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [abs(labels[edges == b].mean() - scores[edges == b].mean()) * (edges == b).mean() for b in np.unique(edges)]
    return float(sum(gaps))


def threshold_at(real: Scores, fpr_limit: float) -> float:
    """The smallest threshold that at most `fpr_limit` of the real ones' scores [N] reach (score >= threshold)."""
    allowed = int(np.floor(fpr_limit * len(real)))
    return float(np.nextafter(np.sort(real)[::-1][allowed], np.inf))


def figures(labels: Labels, scores: Scores, rounds: int = 500, seed: int = 0) -> Figures:
    """All figures at once; the interval comes from `rounds` bootstrap resamples of real and of fake."""
    real, fake = _both(labels, scores)
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1], [len(real), len(fake)])
    resampled = [
        auc(truth, np.concatenate([rng.choice(real, len(real)), rng.choice(fake, len(fake))])) for _ in range(rounds)
    ]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Figures(
        auc=auc(labels, scores),
        auc_low=float(low),
        auc_high=float(high),
        eer=eer(labels, scores),
        tpr_at_1_fpr=tpr_at(labels, scores, 0.01),
        ece=ece(labels, scores),
        real=len(real),
        fake=len(fake),
    )


def _both(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    real, fake = scores[labels == 0], scores[labels == 1]
    if not (len(real) and len(fake)):
        raise ValueError("both labels are needed: the manifest holds only " + ("fakes" if len(fake) else "real faces"))
    return real, fake
