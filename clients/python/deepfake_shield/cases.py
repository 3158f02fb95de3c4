"""What the server says of cases, typed: images that await a human, and what was decided about them.

`raw` is the JSON object as the server sent it. Whoever acts is named by an id: a moderator's, a key's, or `link`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from deepfake_shield.results import Json, Result


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer to a case: uphold, overturn, escalate, skip; or undo, which takes back the one that `undoes` names."""

    id: str
    case_id: str
    answer: str
    reason: str | None
    note: str
    actor: str
    undoes: str | None
    decided_at: datetime

    @classmethod
    def from_json(cls, json: Json) -> Self:
        """From the body of POST /v1/cases/{id}/decision, or one of a case's `decisions`."""
        names = ("id", "case_id", "answer", "reason", "note", "actor", "undoes")
        return cls(**{name: json[name] for name in names}, decided_at=datetime.fromisoformat(json["decided_at"]))


@dataclass(frozen=True, slots=True)
class Case:
    """An item that awaits a human, or was decided by one.

    `state` is open, claimed or decided; `level` the least role that decides it, moderator or lead; `reason` why it was
    opened, flagged or sample; `score` the item's P(fake) in [0, 1]; `answer` uphold or overturn once it is decided.
    `item` and `decisions` (the oldest first) are there where one case was asked for, else None and empty.
    """

    id: str
    item_id: str
    job_id: str
    custom_id: str | None
    state: str
    level: str
    reason: str
    verdict: str
    score: float | None
    answer: str | None
    claimed_by: str | None
    decided_by: str | None
    opened_at: datetime
    decided_at: datetime | None
    item: Result | None
    decisions: tuple[Decision, ...]
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, json: Json) -> Self:
        """From an element of GET /v1/cases, or the body of GET /v1/cases/{id}."""
        names = ("id", "item_id", "job_id", "custom_id", "state", "level", "reason", "verdict", "score", "answer")
        known: dict[str, Any] = {name: json[name] for name in names}
        decided_at = json["decided_at"]
        return cls(
            **known,
            claimed_by=json["claimed_by"],
            decided_by=json["decided_by"],
            opened_at=datetime.fromisoformat(json["opened_at"]),
            decided_at=datetime.fromisoformat(decided_at) if decided_at else None,
            item=Result.from_json(json["item"]) if "item" in json else None,
            decisions=tuple(Decision.from_json(one) for one in json.get("decisions") or ()),
            raw=json,
        )


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision that stands, with what was measured: `decision` is upheld (it is a forgery) or overturned.

    `case_reason` says why the case was opened: flagged, or sample. `id` is the decision's.
    """

    id: str
    case_id: str
    job_id: str
    custom_id: str | None
    decision: str
    reason: str | None
    note: str
    decided_by: str
    decided_at: datetime
    case_reason: str
    item: Result
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, json: Json) -> Self:
        """From a line of GET /v1/decisions."""
        names = ("id", "case_id", "job_id", "custom_id", "decision", "reason", "note", "decided_by", "case_reason")
        known: dict[str, Any] = {name: json[name] for name in names}
        return cls(
            **known,
            decided_at=datetime.fromisoformat(json["decided_at"]),
            item=Result.from_json(json["item"]),
            raw=json,
        )
