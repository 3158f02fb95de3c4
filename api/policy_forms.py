"""The forms of the policy pages: what is typed into them, and what it means. Shares and scores are typed in percent."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from werkzeug.datastructures import MultiDict

from api.schemas import JOB_ID
from shield.policies import LONGEST_NOTE
from shield.policy import MOST_RULES, Origin, Policy, Rule, Terms
from shield.states import Verdict

SPARE_RULES = 2  # empty ones, to be filled in
LEAST_TARGET = 0.001  # percent: to show less takes more than 300,000 clean photos
MOST_PIXELS = 100_000  # of a face: no image is as wide
FIGURES = ("suspect", "fake", "smallest_face", "review_share")


@dataclass(frozen=True, slots=True)
class RuleForm:
    """A rule as it is typed. One that is left empty is none."""

    suspect: str = ""
    fake: str = ""
    below: str = ""
    origins: tuple[str, ...] = ()

    @classmethod
    def of(cls, rule: Rule) -> Self:
        """A rule to be edited."""
        below = "" if rule.below is None else pixels_as_typed(rule.below)
        return cls(as_typed(rule.suspect), as_typed(rule.fake), below, tuple(rule.origins))

    @property
    def empty(self) -> bool:
        """Whether nothing was typed into it."""
        return not (self.suspect or self.fake or self.below or self.origins)

    def rule(self, number: int) -> Rule:
        """What it means. Raises ValueError, which names the rule."""
        try:
            suspect, fake = _thresholds(self.suspect, self.fake)
            below = _size(self.below, "The size of a face") if self.below else None
            return Rule(fake=fake, suspect=suspect, origins=tuple(Origin(name) for name in self.origins), below=below)
        except ValueError as error:
            raise ValueError(f"Rule {number}: {error}") from error


@dataclass(frozen=True, slots=True)
class TermsForm:
    """Terms as they are typed. `own`: not the thresholds of the model."""

    own: bool = False
    suspect: str = ""
    fake: str = ""
    smallest_face: str = ""
    review_share: str = ""
    note: str = ""
    rules: tuple[RuleForm, ...] = ()

    @classmethod
    def of(cls, terms: Terms, default: Policy | None, note: str = "") -> Self:
        """Terms to be edited; the model's thresholds are shown where they are left to it."""
        shown = terms if terms.fake is not None or default is None else default
        return cls(
            own=terms.fake is not None,
            suspect="" if shown.suspect is None else as_typed(shown.suspect),
            fake="" if shown.fake is None else as_typed(shown.fake),
            smallest_face=pixels_as_typed(terms.smallest_face),
            review_share=as_typed(terms.review_share),
            note=note,
            rules=tuple(RuleForm.of(rule) for rule in terms.rules),
        )

    @classmethod
    def sent(cls, form: MultiDict[str, str]) -> Self:
        """What a browser sent."""
        rules = (
            RuleForm(
                **{name: form.get(f"rule-{n}-{name}", "").strip() for name in ("suspect", "fake", "below")},
                origins=tuple(name for name in form.getlist(f"rule-{n}-origin") if name in set(Origin)),
            )
            for n in range(MOST_RULES)
        )
        return cls(
            own=form.get("thresholds") == "own",
            **{name: form.get(name, "").strip() for name in FIGURES},
            note=form.get("note", "").strip(),
            rules=tuple(rule for rule in rules if not rule.empty),
        )

    def with_threshold(self, verdict: Verdict, value: float) -> Self:
        """With another threshold for this verdict; the other one is moved along where it would be out of order."""
        typed = as_typed(value)
        if verdict == Verdict.FAKE:
            suspect = self.suspect if self.suspect and float(self.suspect) <= 100 * value else typed
            return replace(self, own=True, fake=typed, suspect=suspect)
        fake = self.fake if self.fake and float(self.fake) >= 100 * value else typed
        return replace(self, own=True, suspect=typed, fake=fake)

    def terms(self) -> Terms:
        """What it means. Raises ValueError with a sentence for people."""
        if len(self.note) > LONGEST_NOTE or "\0" in self.note:
            raise ValueError(f"A note has up to {LONGEST_NOTE} characters: shorten it.")
        suspect, fake = _thresholds(self.suspect, self.fake) if self.own else (None, None)
        return Terms(
            fake=fake,
            suspect=suspect,
            smallest_face=_size(self.smallest_face or "0", "The smallest face"),
            rules=tuple(rule.rule(number) for number, rule in enumerate(self.rules, 1)),
            review_share=_share(self.review_share or "0", "The share for review"),
        )

    def shown_rules(self) -> list[RuleForm]:
        """Its rules, and empty ones to be filled in."""
        return [*self.rules, *[RuleForm()] * min(SPARE_RULES, MOST_RULES - len(self.rules))]


def _blank_is_none(typed: object) -> object:
    return typed or None


class FitQuery(BaseModel):
    """Which threshold is looked for, on which clean photos, and what share of them may reach it."""

    model_config = ConfigDict(extra="ignore")

    verdict: Literal[Verdict.SUSPECT, Verdict.FAKE] = Verdict.SUSPECT
    target: Annotated[float, Field(ge=LEAST_TARGET, lt=100, allow_inf_nan=False)] = 1.0  # percent
    job: list[Annotated[str, Field(pattern=JOB_ID)]] = Field(default=[], max_length=100)
    other: Annotated[Annotated[str, Field(pattern=JOB_ID)] | None, BeforeValidator(_blank_is_none)] = None
    reviewed: bool = False

    @property
    def job_ids(self) -> list[str]:
        """The jobs whose photos are all clean."""
        return [*self.job, *([self.other] if self.other else [])]


class PolicyQuery(BaseModel):
    """Where the history goes on, and a threshold to begin the draft with."""

    model_config = ConfigDict(extra="ignore")

    before: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    verdict: Literal[Verdict.SUSPECT, Verdict.FAKE] | None = None
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None


def as_typed(share: float) -> str:
    """A share or a score in percent, to be edited: 0.125 is 12.5."""
    return f"{round(100 * share, 4):.6g}"


def pixels_as_typed(pixels: float) -> str:
    """A length in pixels, to be edited: never in powers of ten, as `g` would have it."""
    return f"{pixels:.4f}".rstrip("0").rstrip(".")


def _thresholds(suspect: str, fake: str) -> tuple[float, float]:
    from_suspect, from_fake = _share(suspect, "Suspect from"), _share(fake, "Fake from")
    if not 0 < from_suspect <= from_fake:
        raise ValueError("“Suspect from” must be more than 0 %, and not more than “Fake from”.")
    return from_suspect, from_fake


def _share(typed: str, name: str) -> float:
    """Percent as a share. Raises ValueError."""
    value = _figure(typed, name)
    if value > 100:  # noqa: PLR2004
        raise ValueError(f"“{name}” is at most 100 %.")
    return round(value / 100, 6)


def _size(typed: str, name: str) -> float:
    """Pixels. Raises ValueError."""
    value = _figure(typed, name)
    if value > MOST_PIXELS:
        raise ValueError(f"“{name}” is at most {MOST_PIXELS:,} px.")
    return round(value, 4)


def _figure(typed: str, name: str) -> float:
    try:
        value = float(typed)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"“{name}” must be a number, and not below 0.")
    return value
