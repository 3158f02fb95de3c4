"""The operating point. The figures of intervals are checked against sums of exact fractions."""

import random
from fractions import Fraction
from math import comb

import pytest

from shield.operating import CONFIDENCE, Fit, OutOfReach, TooFew, at_most, fit, rate


def exactly_at_most(count: int, images: int, share: float) -> float:
    """The binomial distribution without a float in it."""
    p = Fraction(share)
    return float(sum(comb(images, n) * p**n * (1 - p) ** (images - n) for n in range(count + 1)))


@pytest.mark.parametrize(("count", "images", "share"), [(0, 299, 0.01), (4, 1000, 0.0092), (99, 100, 0.9), (3, 7, 0.5)])
def test_probabilities_are_those_of_the_binomial_distribution(count: int, images: int, share: float) -> None:
    assert at_most(count, images, share) == pytest.approx(exactly_at_most(count, images, share), rel=1e-9)


@pytest.mark.parametrize(("count", "images"), [(0, 10), (1, 10), (5, 10), (10, 10), (4, 1000), (31, 1000)])
def test_the_ends_of_an_interval_are_where_what_was_seen_becomes_too_unlikely(count: int, images: int) -> None:
    found = rate(count, images)
    assert found.low <= found.share <= found.high
    if count:
        assert 1 - exactly_at_most(count - 1, images, found.low) == pytest.approx(1 - CONFIDENCE, abs=1e-6)
    else:
        assert found.low == 0.0
    if count < images:
        assert exactly_at_most(count, images, found.high) == pytest.approx(1 - CONFIDENCE, abs=1e-6)
    else:
        assert found.high == 1.0


def test_an_interval_as_it_is_printed_in_tables() -> None:
    """Clopper and Pearson's 90 % interval of 10 in 100, as R's binom.test(10, 100, conf.level = 0.9) prints it."""
    found = rate(10, 100)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0553, 0.1637)


@pytest.mark.parametrize(("count", "images"), [(1, 0), (0, 0), (-1, 5), (6, 5)])
def test_what_is_no_share_is_refused(count: int, images: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        rate(count, images)


def test_the_threshold_is_just_above_the_first_score_that_is_too_many() -> None:
    scores = [n / 1000 for n in range(1000)]
    found = fit(scores, 0.01)
    assert isinstance(found, Fit)
    # Of 1,000, four may be flagged: with five the share could be over 1 % once in twenty times.
    assert exactly_at_most(4, 1000, 0.01) <= 0.05 < exactly_at_most(5, 1000, 0.01)
    assert (found.threshold, found.rate.count) == (0.9951, 4)
    assert found.rate.high <= 0.01
    lower = fit(scores, 0.05)
    assert isinstance(lower, Fit)
    assert lower.threshold < found.threshold


def test_the_order_of_the_scores_does_not_matter_and_equal_ones_stay_together() -> None:
    scores = [0.9] * 20 + [0.1] * 980
    random.Random(1).shuffle(scores)
    assert fit(scores, 0.01) == Fit(0.9001, rate(0, 1000))
    assert fit(scores, 0.05) == Fit(0.1001, rate(20, 1000))


def test_a_sample_that_cannot_show_so_low_a_rate_says_what_it_can_show() -> None:
    assert isinstance(fit([0.1] * 299, 0.01), Fit)
    few = fit([0.1] * 298, 0.01)
    assert isinstance(few, TooFew)
    assert (few.images, few.needed) == (298, 299)
    assert 0.01 < few.least_target < 0.0101
    assert isinstance(fit([0.1] * 298, few.least_target + 1e-6), Fit)
    assert fit([], 0.5) == TooFew(0, 1.0, 5)


def test_what_no_threshold_can_clear_is_said() -> None:
    scores = [float("inf")] * 6 + [1.0] * 4 + [0.2] * 990
    assert fit(scores, 0.01) == OutOfReach(1000, 10)
    found = fit(scores, 0.02)
    assert isinstance(found, Fit)
    assert (found.threshold, found.rate.count) == (0.2001, 10)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, float("nan")])
def test_a_target_that_is_no_share_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target"):
        fit([0.1], target)


@pytest.mark.parametrize("images", [100, 333, 1000])
def test_nineteen_of_twenty_samples_keep_the_promise(images: int) -> None:
    """Scores are uniform, so the share of all images that a threshold flags is what it leaves of 1."""
    numbers = random.Random(images)
    broken = 0
    for _ in range(1000):
        found = fit([numbers.random() for _ in range(images)], 0.05)
        assert isinstance(found, Fit)
        broken += 1 - found.threshold > 0.05
    assert broken <= 50 + 3 * 7  # of 1,000; three standard deviations
