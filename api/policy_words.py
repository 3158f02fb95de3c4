"""What the policy pages show of terms, versions and fits: figures as people read them, pictures ready to be drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from api.policy_forms import as_typed, pixels_as_typed
from api.words import photos
from shield import policies
from shield.models import PolicyVersion
from shield.operating import Rate
from shield.policy import Origin, Policy, Rule, Terms

ORIGINS = {Origin.UPLOAD: "uploaded", Origin.URL: "from a web address", Origin.S3: "from S3"}
BARS = 50  # of the picture of a sample's scores
HEIGHT = 100  # of its highest bar


@dataclass(frozen=True, slots=True)
class ShownTerms:
    """Terms for people. `suspect` and `fake` are in percent, or None before any model is known."""

    of_model: bool  # the thresholds are the model's
    suspect: float | None
    fake: float | None
    rules: list[str]
    smallest_face: str
    review_share: str
    line: str  # all of it, shortly

    @classmethod
    def of(cls, terms: Terms, default: Policy | None) -> Self:
        """With the thresholds of the default where they are left to the model."""
        of_model = terms.fake is None
        policy = terms.policy("", default) if default is not None else None
        suspect, fake = (policy.suspect, policy.fake) if policy else (terms.suspect, terms.fake)
        rules = [_rule_in_words(rule) for rule in terms.rules]
        limits = "" if suspect is None or fake is None else _limits(suspect, fake)
        parts = [f"The model's thresholds{': ' if limits else ''}{limits}" if of_model else limits.capitalize()]
        if rules:
            parts.append("1 rule" if len(rules) == 1 else f"{len(rules)} rules")
        if terms.review_share:
            parts.append(f"{as_typed(terms.review_share)} % for review")
        return cls(
            of_model=of_model,
            suspect=None if suspect is None else 100 * suspect,
            fake=None if fake is None else 100 * fake,
            rules=rules,
            smallest_face=pixels_as_typed(terms.smallest_face),
            review_share=f"{as_typed(terms.review_share)} %" if terms.review_share else "",
            line=" · ".join(parts),
        )


@dataclass(frozen=True, slots=True)
class ShownVersion:
    """A published version for people."""

    row: PolicyVersion
    who: str
    terms: ShownTerms

    @classmethod
    def of(cls, row: PolicyVersion, default: Policy | None, people: Mapping[str, str]) -> Self:
        """`people`: names by the ids of moderators."""
        who = people.get(row.published_by or "", "an operator's link")
        return cls(row, who, ShownTerms.of(policies.terms_of(row), default))


@dataclass(frozen=True, slots=True)
class Bar:
    """How many photos of a sample score about this: `x` in percent, `height` logarithmic."""

    x: float
    height: float


def bars(peaks: Sequence[float]) -> list[Bar]:
    """The picture of a sample's scores; what is flagged by a rule counts as 100 %."""
    counts = [0] * BARS
    for peak in peaks:
        counts[min(int(min(peak, 1.0) * BARS), BARS - 1)] += 1
    highest = math.log1p(max(counts))
    return [
        Bar(100 * n / BARS, round(HEIGHT * math.log1p(count) / highest, 1)) for n, count in enumerate(counts) if count
    ]


def rate_in_words(rate: Rate, done: str) -> str:
    """What was done to so many of a sample, and where the true share lies."""
    seen = f"{rate.count:,} of {photos(rate.images)} ({percent(rate.share)}) {done}"
    return f"{seen}; the true share is between {percent(rate.low)} and {percent(rate.high)}"


def percent(share: float) -> str:
    """A share with about two digits, however small: 0.34 %, 3.1 %, 12 %."""
    digits = 2 if share < 0.01 else 1 if share < 0.1 else 0  # noqa: PLR2004
    return f"{float(f'{100 * share:.{digits}f}'):g} %"


def _rule_in_words(rule: Rule) -> str:
    faces = "Faces" if rule.below is None else f"Faces below {pixels_as_typed(rule.below)} px"
    where = f", {' or '.join(ORIGINS[origin] for origin in rule.origins)}" if rule.origins else ""
    return f"{faces}{where}: {_limits(rule.suspect, rule.fake)}"


def _limits(suspect: float, fake: float) -> str:
    return f"suspect from {as_typed(suspect)} %, fake from {as_typed(fake)} %"
