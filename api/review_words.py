"""What the console's pages say of a case: answers and reasons in plain words, ages, who has it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from api.shown import ShownItem
from api.words import percent
from shield.audit import OPERATOR
from shield.cases import Sort
from shield.decisions import REASONS
from shield.models import Case, Decision, ExplainedFace
from shield.states import Answer, CaseReason, CaseState, DecisionReason, Role

MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds
LARGE = 2.4  # how much larger than in the queue a photo is on its case's page

DONE = {  # what was done, of a person
    Answer.UPHOLD: "Upheld",
    Answer.OVERTURN: "Overturned",
    Answer.ESCALATE: "Escalated",
    Answer.SKIP: "Skipped",
    Answer.UNDO: "Taken back",
}
REASON_WORDS = {
    DecisionReason.IMPERSONATION: "Impersonation",
    DecisionReason.INTIMATE: "Intimate",
    DecisionReason.FRAUD: "Fraud",
    DecisionReason.DECEPTION: "Deception",
    DecisionReason.GENERATED: "Just forged",
    DecisionReason.AUTHENTIC: "Authentic",
    DecisionReason.RETOUCHED: "Retouched",
    DecisionReason.NOT_A_FACE: "Not a face",
    DecisionReason.SATIRE: "Satire",
    DecisionReason.UNSURE: "Not sure",
    DecisionReason.OTHER: "Other",
}
REASON_KEYS = (  # as the form groups them: by the answer that each goes with, and the key that chooses it
    (
        "Forged",
        (
            (DecisionReason.IMPERSONATION, "1"),
            (DecisionReason.INTIMATE, "2"),
            (DecisionReason.FRAUD, "3"),
            (DecisionReason.DECEPTION, "4"),
            (DecisionReason.GENERATED, "5"),
        ),
    ),
    (
        "Not forged",
        (
            (DecisionReason.AUTHENTIC, "6"),
            (DecisionReason.RETOUCHED, "7"),
            (DecisionReason.NOT_A_FACE, "8"),
            (DecisionReason.SATIRE, "9"),
        ),
    ),
    ("Neither", ((DecisionReason.OTHER, "0"), (DecisionReason.UNSURE, "-"))),
)
REASON_FITS = {  # the answers that each goes with
    reason: [answer for answer, reasons in REASONS.items() if reason in reasons] for reason in DecisionReason
}
SORTS = {Sort.PRIORITY: "Most urgent", Sort.AGE: "Oldest", Sort.SCORE: "Highest score"}
WAYS = {  # in which a face is saved again, and scored
    "jpeg_90": "JPEG 90",
    "jpeg_70": "JPEG 70",
    "jpeg_50": "JPEG 50",
    "webp_75": "WebP 75",
    "half_size": "half size",
}
WHY_OPENED = {
    CaseReason.FLAGGED: "The policy flagged it.",
    CaseReason.SAMPLE: "Drawn at random, to check the quality of the verdicts.",
}


class Standing(StrEnum):
    """How a case stands, as the person who looks at it sees it."""

    MINE = "mine"  # and nobody else can decide it
    FREE = "free"
    HELD = "held"  # somebody else has claimed it
    BARRED = "barred"  # free, but for a lead
    DECIDED = "decided"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, when, and what the people who come up are called."""

    id: str
    role: Role
    moment: datetime
    names: dict[str, str]

    def name(self, actor: str | None) -> str:
        """What somebody who acted is called."""
        if actor == self.id:
            return "you"
        if actor in self.names:
            return self.names[actor]
        return "a program" if (actor or "").startswith("key_") else f"the {OPERATOR}"

    def age(self, since: datetime) -> str:
        """How long ago, in its largest unit."""
        seconds = max(0, int((self.moment - since).total_seconds()))
        for unit, word in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
            if seconds >= unit:
                return f"{seconds // unit} {word}"
        return "now"

    def standing(self, case: Case) -> Standing:
        """How a case stands; a claim that ran out is none."""
        if case.state == CaseState.DECIDED:
            return Standing.DECIDED
        if case.claimed_until is not None and case.claimed_until > self.moment:
            return Standing.MINE if case.claimed_by == self.id else Standing.HELD
        return Standing.BARRED if case.level == Role.LEAD and self.role == Role.MODERATOR else Standing.FREE


@dataclass(frozen=True, slots=True)
class ShownCase:
    """A case for people."""

    row: Case
    item: ShownItem
    job: str
    age: str
    standing: Standing
    holder: str

    @classmethod
    def of(cls, row: Case, viewer: Viewer, larger: float = 1.0) -> Self:
        """From a row with its item (faces, weights) and job."""
        return cls(
            row=row,
            item=ShownItem.of(row.item, larger),
            job=row.job.name or "Unnamed job",
            age=viewer.age(row.opened_at),
            standing=viewer.standing(row),
            holder=viewer.name(row.decided_by if row.state == CaseState.DECIDED else row.claimed_by),
        )


@dataclass(frozen=True, slots=True)
class ShownDecision:
    """An answer, or that one was taken back, for people."""

    done: str
    who: str
    reason: str
    note: str
    at: datetime

    @classmethod
    def of(cls, row: Decision, viewer: Viewer) -> Self:
        """From its row."""
        reason = REASON_WORDS[DecisionReason(row.reason)] if row.reason else ""
        return cls(DONE[Answer(row.answer)], viewer.name(row.actor), reason, row.note, row.decided_at)


@dataclass(frozen=True, slots=True)
class ShownWhy:
    """Why a face scores as it does: the square that was looked at, in pixels of the image, and its scores again."""

    left: float
    top: float
    side: float
    lowest: str  # of the scores, the first one among them
    highest: str
    ways: list[tuple[str, str]]

    @classmethod
    def of(cls, row: ExplainedFace) -> Self:
        """From its row."""
        scores = [row.score, *(score for _, score in row.stability)]
        ways = [(WAYS.get(way, way), percent(score)) for way, score in row.stability]
        return cls(row.left, row.top, row.side, percent(min(scores)), percent(max(scores)), ways)


def in_bulk(answer: Answer, decided: int, passed_over: int) -> str:
    """What became of an answer to many cases."""
    told = f"{DONE[answer]} {decided:,} {'case' if decided == 1 else 'cases'}."
    whose = "somebody else has or decided " + ("it" if passed_over == 1 else "them")
    return told + (f" {passed_over:,} passed over: {whose}." if passed_over else "")
