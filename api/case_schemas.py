"""What goes over the wire about cases and decisions, as pydantic models."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.schemas import JOB_ID, PAGE_LIMIT, Item, Moment
from shield import decisions, models
from shield.cases import CaseFilter, Sort
from shield.items import CLEAN
from shield.states import Answer, CaseReason, CaseState, DecisionReason, Role, Verdict

CASE_ID = r"^cas_[0-9a-f]{27}$"
WHO = "The id of a moderator, of an API key, or of a browser's session."

Text = Annotated[str, StringConstraints(max_length=1024, pattern=CLEAN)]
Note = Annotated[str, StringConstraints(max_length=decisions.LONGEST_NOTE, pattern=CLEAN)]
Asked = Literal[Answer.UPHOLD, Answer.OVERTURN, Answer.ESCALATE, Answer.SKIP]
Level = Literal[Role.MODERATOR, Role.LEAD]


class Case(BaseModel):
    """An item that awaits a human, or was decided by one."""

    id: str
    item_id: str
    job_id: str
    custom_id: str | None
    state: CaseState
    level: Level = Field(description="The least role that decides it: lead once it was escalated.")
    reason: CaseReason = Field(description="Why it was opened.")
    verdict: Verdict
    score: float | None = Field(description="The item's: the highest P(fake) of a judged face, 0 to 1.")
    opened_at: datetime
    claimed_by: str | None = Field(description=WHO)
    claimed_until: datetime | None
    answer: Literal[Answer.UPHOLD, Answer.OVERTURN] | None = Field(description="uphold: it is a forgery.")
    decided_by: str | None = Field(description=WHO)
    decided_at: datetime | None

    @classmethod
    def of(cls, row: models.Case) -> Self:
        """The wire form of a row that was loaded with its item."""
        return cls.model_validate(_fields(row))


def _fields(row: models.Case) -> dict[str, object]:
    own = ("id", "item_id", "job_id", "state", "level", "reason", "verdict", "opened_at")
    claimed = ("claimed_by", "claimed_until", "answer", "decided_by", "decided_at")
    return {name: getattr(row, name) for name in own + claimed} | {
        "custom_id": row.item.custom_id,
        "score": row.item.score,
    }


class Decision(BaseModel):
    """What was answered to a case. `undo` takes back the answer that `undoes` names."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    case_id: str
    answer: Answer
    reason: DecisionReason | None
    note: str
    actor: str = Field(description=WHO)
    undoes: str | None
    decided_at: datetime


class WholeCase(Case):
    """A case with the item that it is about, and all that was answered to it, the oldest first."""

    item: Item
    decisions: list[Decision]

    @classmethod
    def whole(cls, row: models.Case, answers: list[models.Decision]) -> Self:
        """The wire form of a row that was loaded with its item."""
        told = [Decision.model_validate(answer) for answer in answers]
        return cls.model_validate(_fields(row) | {"item": Item.of(row.item), "decisions": told})


class CaseList(BaseModel):
    """A page of cases. Go on with ?after=last_id while has_more."""

    data: list[Case]
    has_more: bool
    first_id: str | None
    last_id: str | None


class NewDecision(BaseModel):
    """An answer to a case."""

    model_config = ConfigDict(extra="forbid")

    answer: Asked = Field(
        description="uphold: it is a forgery; overturn: it is not; escalate: a lead shall decide; skip: anybody else."
    )
    reason: DecisionReason | None = Field(None, description="docs/api.md says which go with which answer.")
    note: Note = Field("", description="For people.")


class DecidedCase(BaseModel):
    """A decision that stands, with what was measured: a line of the export."""

    id: str
    case_id: str
    job_id: str
    custom_id: str | None
    decision: Literal["upheld", "overturned"] = Field(description="upheld: it is a forgery.")
    reason: DecisionReason | None
    note: str
    decided_by: str = Field(description=WHO)
    decided_at: datetime
    case_reason: CaseReason
    item: Item

    @classmethod
    def of(cls, case: models.Case, decision: models.Decision) -> Self:
        """The wire form of a case that was loaded with its item, and of the decision that stands."""
        return cls(
            id=decision.id,
            case_id=case.id,
            job_id=case.job_id,
            custom_id=case.item.custom_id,
            decision="upheld" if decision.answer == Answer.UPHOLD else "overturned",
            reason=DecisionReason(decision.reason) if decision.reason else None,
            note=decision.note,
            decided_by=decision.actor,
            decided_at=decision.decided_at,
            case_reason=CaseReason(case.reason),
            item=Item.of(case.item),
        )


class CasePath(BaseModel):
    """The path of a case."""

    case_id: str = Field(pattern=CASE_ID)


class CaseQuery(BaseModel):
    """A page of the queue, narrowed."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=PAGE_LIMIT, description="Most rows on the page.")
    after: str | None = Field(None, pattern=CASE_ID, description="The id of the last case on the page before.")
    sort: Sort = Field(Sort.PRIORITY, description="Decided cases come the latest first, whatever the sort.")
    state: CaseState | None = Field(None, description="open: free to be claimed. Absent: open and claimed.")
    verdict: Verdict | None = None
    reason: CaseReason | None = None
    level: Level | None = None
    job_id: str | None = Field(None, pattern=JOB_ID)
    custom_id: Text = Field(
        "", description="A part of it, in letters of either case; looked for among 10,000 cases of the other filters."
    )

    def narrowed(self) -> CaseFilter:
        """As the queue takes it."""
        level = Role(self.level) if self.level else None
        return CaseFilter(self.verdict, self.job_id, self.reason, level, self.state, self.custom_id)


class DecisionQuery(BaseModel):
    """When they were decided."""

    model_config = ConfigDict(extra="forbid")

    since: Moment | None = Field(None, description="Then or later.")
    until: Moment | None = Field(None, description="Before then.")
