"""The operating point: the threshold above which no more than a target share of clean images is flagged. Pure.

The `allowed + 1`-th highest score of a sample of n clean images is a threshold that the share p of all clean images
exceeds, and p is distributed as Beta(allowed + 1, n - allowed), whatever the scores' own distribution (S. S. Wilks,
"Determination of sample sizes for setting tolerance limits", Annals of Mathematical Statistics 12, 1941; ties only make
p smaller). `allowed` is the largest number for which p is at most the target with 95 % confidence. Intervals are those
of C. J. Clopper and E. S. Pearson ("The use of confidence or fiducial limits illustrated in the case of the binomial",
Biometrika 26, 1934), whose upper ends are quantiles of the same Beta distributions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95  # of each end of an interval, so that both together hold in 90 of 100 samples
STEPS = 10_000  # thresholds are multiples of 1 / STEPS


@dataclass(frozen=True, slots=True)
class Rate:
    """A share that was seen in a sample, and the interval that the true one lies in: `low` and `high`, in [0, 1]."""

    count: int
    images: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """What was seen, in [0, 1]."""
        return self.count / self.images


@dataclass(frozen=True, slots=True)
class Fit:
    """The lowest threshold that keeps to the target, and what it flags of the sample."""

    threshold: float
    rate: Rate


@dataclass(frozen=True, slots=True)
class TooFew:
    """A sample that cannot show so low a rate: which target it allows, and how many images this one needs."""

    images: int
    least_target: float
    needed: int


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """So many images of the sample are flagged whatever the threshold is: they score 1, or a rule flags them."""

    images: int
    flagged: int


def fit(scores: Sequence[float], target: float) -> Fit | TooFew | OutOfReach:
    """Where to put the threshold so that, with CONFIDENCE, at most the share `target` of clean images reaches it.

    `scores` are of a random sample of clean images, one each, in [0, 1], or above where no threshold saves the image.
    Raises ValueError for a target that is not between 0 and 1.
    """
    if not 0.0 < target < 1.0:
        raise ValueError(f"a target is a share between 0 and 1, not {target:g}")
    images = len(scores)
    if images < (needed := _needed(target)):
        least = 1.0 if images == 0 else rate(0, images).high
        return TooFew(images, least, needed)
    allowed = _allowed(images, target)
    exceeded = sorted(scores, reverse=True)[allowed]
    threshold = (math.floor(exceeded * STEPS) + 1) / STEPS if exceeded < 1.0 else math.inf
    if threshold > 1.0:
        return OutOfReach(images, sum(score >= 1.0 for score in scores))
    return Fit(threshold, rate(sum(score >= threshold for score in scores), images))


def rate(count: int, images: int) -> Rate:
    """What a sample of so many images, of which `count` are flagged, tells of all. Raises ValueError for none."""
    if not 0 <= count <= images or images == 0:
        raise ValueError(f"{count} of {images} images is no share")
    low = 0.0 if count == 0 else _where(lambda p: at_most(count - 1, images, p) <= CONFIDENCE)
    high = 1.0 if count == images else _where(lambda p: at_most(count, images, p) <= 1 - CONFIDENCE)
    return Rate(count, images, low, high)


def at_most(count: int, images: int, share: float) -> float:
    """The probability of `count` or fewer flagged among so many images, where the true share is between 0 and 1."""
    return math.fsum(_exactly(n, images, share) for n in range(count + 1))


def _allowed(images: int, target: float) -> int:
    """How many images of a sample may be flagged, at most, for the target to hold with CONFIDENCE."""
    allowed, below = 0, _exactly(0, images, target)
    while below + (more := _exactly(allowed + 1, images, target)) <= 1 - CONFIDENCE:
        allowed, below = allowed + 1, below + more
    return allowed


def _needed(target: float) -> int:
    """How many images, none of them flagged, show a rate of no more than the target."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-target) - 1e-9)


def _exactly(count: int, images: int, share: float) -> float:
    ways = math.lgamma(images + 1) - math.lgamma(count + 1) - math.lgamma(images - count + 1)
    return math.exp(ways + count * math.log(share) + (images - count) * math.log1p(-share))


def _where(true: Callable[[float], bool]) -> float:
    """The share from which on this is true, by halving."""
    low, high = 0.0, 1.0
    while high - low > 1e-9:  # noqa: PLR2004 - far finer than anybody reads it
        middle = (low + high) / 2
        low, high = (low, middle) if true(middle) else (middle, high)
    return (low + high) / 2
