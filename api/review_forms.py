"""What the console's addresses and forms carry."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, Self
from urllib.parse import urlencode

from flask import request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from werkzeug.datastructures import MultiDict

from api.case_schemas import CasePath
from api.schemas import JOB_ID
from shield.cases import CaseFilter, Sort
from shield.models import Decision
from shield.states import Answer, CaseReason, CaseState, DecisionReason, Role, Verdict


def case_asked(name: str) -> str | None:
    """The case that this request's address names. Raises ValidationError."""
    given = request.args.get(name)
    return CasePath(case_id=given).case_id if given else None


def filled(fields: MultiDict[str, str]) -> dict[str, str]:
    """What a form sends without what was left empty."""
    return {name: text for name, text in fields.items() if text}


class View(BaseModel):
    """Which cases are looked at, and in which order. Every address carries it, so that the next case is alike."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sort: Sort = Sort.PRIORITY
    verdict: Verdict | None = None
    reason: CaseReason | None = None
    level: Role | None = None
    state: CaseState | None = None
    job_id: str | None = Field(None, pattern=JOB_ID)
    name: str = Field("", max_length=200)

    @classmethod
    def asked(cls) -> Self:
        """The one in this request's address. Raises ValidationError."""
        return cls.model_validate(filled(request.args))

    @property
    def wanted(self) -> CaseFilter:
        """What it narrows the queue to."""
        return CaseFilter(**self.model_dump(exclude={"sort"}))

    @property
    def query(self) -> dict[str, str]:
        """What stands in an address for it."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def at(self, path: str, **more: str) -> str:
        """The address of a path of the console under this view."""
        query = urlencode({**self.query, **more})
        return f"{path}?{query}" if query else path


class Kind(NamedTuple):
    """A way to narrow the queue."""

    word: str
    address: str
    level: str
    chosen: bool


def kinds(view: View) -> list[Kind]:
    """All cases, and the kinds that people ask for; each keeps the order, the campaign and the name."""
    plain = view.model_copy(update=dict.fromkeys(("verdict", "reason", "level", "state")))
    ways: list[tuple[str, str, dict[str, str]]] = [
        ("All", "all", {}),
        ("Fake", "fake", {"verdict": Verdict.FAKE}),
        ("Suspect", "suspect", {"verdict": Verdict.SUSPECT}),
        ("Samples", "sample", {"reason": CaseReason.SAMPLE}),
        ("Escalated", "lead", {"level": Role.LEAD}),
        ("Claimed", "claimed", {"state": CaseState.CLAIMED}),
    ]
    views = [(word, level, plain.model_copy(update=narrowed)) for word, level, narrowed in ways]
    return [Kind(word, one.at("/review"), level, one == view) for word, level, one in views]


def _as_counted(note: str) -> str:
    """With lines that end as they did where the browser counted its characters: they are sent with one more."""
    return note.replace("\r\n", "\n")


class Answered(BaseModel):
    """What the form of a case, or of many, sends, and what is given back when it is refused."""

    model_config = ConfigDict(extra="ignore")

    answer: Answer = Answer.SKIP
    reason: DecisionReason | None = None
    note: Annotated[str, BeforeValidator(_as_counted)] = ""
    token: str = ""

    @classmethod
    def sent(cls) -> Self:
        """The one that this request sends. Raises ValidationError."""
        return cls.model_validate(filled(request.form))

    @classmethod
    def taken_back(cls, history: Sequence[Decision], person: str) -> Self:
        """What this person answered and has just taken back, to be answered otherwise; else nothing."""
        last = history[-1] if history else None
        if last is None or last.undoes is None or last.actor != person:
            return cls()
        undone = next(decision for decision in history if decision.id == last.undoes)
        if undone.actor != person:
            return cls()
        return cls(reason=DecisionReason(undone.reason) if undone.reason else None, note=undone.note)
