"""Cases: items that await a human. Opened where a scan is recorded, and queued for shield.claims."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, literal, literal_column, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, selectinload

from shield.db import new_id, now
from shield.errors import InvalidSubmission, NotFound
from shield.models import WHOLE_ITEM, Case, Item, Job
from shield.outcomes import Row, Scanned
from shield.states import CaseReason, CaseState, Role, Verdict, sources

COUNTED = 10_000  # cases; of more no more is said than that
SEARCHED = COUNTED  # cases, the first ones in their order, among which a name is looked for: no index leads to it
ESCALATED = -1  # the priority of what was escalated

# Written out, not bound: only so can a database see that the indexes of undecided cases serve.
UNDECIDED = Case.state != literal_column("'decided'")
JOB_IS_THERE = ~select(Job.id).where(Job.id == Case.job_id, Job.deleted_at.is_not(None)).correlate(Case).exists()
LOADED = (
    selectinload(Case.item).options(*WHOLE_ITEM),
    selectinload(Case.job),
)


class Sort(StrEnum):
    """What comes first in the queue."""

    PRIORITY = "priority"  # escalated, then fakes, then suspects, each by falling score; samples last
    AGE = "age"  # the oldest
    SCORE = "score"  # the highest


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which cases; what is None narrows nothing.

    `state` open: that can be claimed now; claimed: that somebody holds; decided; None: whatever is not decided.
    `name`: a part of the item's custom_id, in either case, of SEARCHED cases of the others.
    """

    verdict: Verdict | None = None
    job_id: str | None = None
    reason: CaseReason | None = None
    level: Role | None = None
    state: CaseState | None = None
    name: str = ""


ANY = CaseFilter()


@dataclass(frozen=True, slots=True)
class Counts:
    """How many cases of an account anybody can claim, a lead alone can, are claimed, and are decided.

    Each counts up to COUNTED.
    """

    open: int
    escalated: int
    claimed: int
    decided: int


@dataclass(frozen=True, slots=True)
class Campaign:
    """A job with undecided cases, and how many (up to COUNTED)."""

    job_id: str
    name: str
    created_at: datetime
    undecided: int


def opened(outcome: Scanned, account_id: str, job_id: str, moment: datetime) -> Row | None:
    """The row of the case that an item's scan opens; None where no human need look."""
    verdict, score = outcome.judgement.verdict, outcome.judgement.score or 0.0
    flagged = verdict in (Verdict.FAKE, Verdict.SUSPECT)
    if not (flagged or outcome.review_sample):
        return None
    return {
        "id": new_id("cas"),
        "account_id": account_id,
        "item_id": outcome.item_id,
        "job_id": job_id,
        "state": CaseState.OPEN,
        "level": Role.MODERATOR,
        "reason": CaseReason.FLAGGED if flagged else CaseReason.SAMPLE,
        "verdict": verdict,
        "score": score,
        "priority": priority(verdict, score),
        "image_hash": outcome.image_hash,
        "opened_at": moment,
    }


def priority(verdict: str, score: float) -> int:
    """The place of a case in the queue, the lowest first: fakes, then suspects, each by falling score, then samples."""
    first = {Verdict.FAKE: 0, Verdict.SUSPECT: 2000}.get(Verdict(verdict))
    return 4000 if first is None else first + round(1000 * (1 - score))


def queue(
    session: Session,
    account_id: str,
    role: Role,
    limit: int,
    sort: Sort = Sort.PRIORITY,
    wanted: CaseFilter = ANY,
    after: str | None = None,
) -> list[Case]:
    """A page of cases that this role may see, behind the case `after`; each with its item (faces, weights) and job.

    A moderator sees those of level moderator, a lead and an admin all. Decided ones come the latest first, whatever the
    sort. Raises InvalidSubmission where `after` is no case.
    """
    query, keys = matching(session, account_id, role, wanted), keys_of(sort, wanted)
    if after is not None:
        query = query.where(_behind(session, account_id, after, keys))
    return list(session.scalars(ordered(query, keys, wanted.name).limit(limit).options(*LOADED)))


Keys = tuple[tuple[InstrumentedAttribute[Any], ...], bool]  # columns to sort by, and whether the highest come first


def keys_of(sort: Sort, wanted: CaseFilter) -> Keys:
    """What a page of these cases is sorted by."""
    if wanted.state == CaseState.DECIDED:
        return (Case.decided_at, Case.id), True
    match sort:
        case Sort.PRIORITY:
            return (Case.priority, Case.id), False
        case Sort.AGE:
            return (Case.id,), False
        case Sort.SCORE:
            return (Case.score, Case.id), True


def ordered(query: Select[Case], keys: Keys, name: str) -> Select[Case]:
    """The cases of a query that hold this name, sorted by these keys; all of them where it is empty."""
    columns, falling = keys
    places = [column.desc() if falling else column for column in columns]
    if not name:
        return query.order_by(*places)
    first = query.order_by(*places).limit(SEARCHED).with_only_columns(Case.id, Case.item_id).subquery()
    named = select(first.c.id).join(Item, Item.id == first.c.item_id)
    named = named.where(Item.custom_id.icontains(name, autoescape=True))
    return select(Case).where(Case.id.in_(named)).order_by(*places)


def _behind(session: Session, account_id: str, after: str, keys: Keys) -> ColumnElement[bool]:
    columns, falling = keys
    row = session.execute(select(*columns).where(Case.id == after, Case.account_id == account_id)).one_or_none()
    if row is None:
        raise InvalidSubmission(f"no case {after} to go on behind: begin with the first page", "/after")
    place = tuple_(*(literal(value, column.type) for value, column in zip(row, columns, strict=True)))
    return tuple_(*columns) < place if falling else tuple_(*columns) > place


def matching(session: Session, account_id: str, role: Role, wanted: CaseFilter) -> Select[Case]:
    """The cases that a filter lets through, whatever their names, and this role may see."""
    query = select(Case).where(Case.account_id == account_id, JOB_IS_THERE)
    query = query.where(Case.decided_at.is_not(None) if wanted.state == CaseState.DECIDED else UNDECIDED)
    if wanted.state == CaseState.OPEN:
        query = query.where(is_free(now(session)))
    if wanted.state == CaseState.CLAIMED:
        query = query.where(Case.claimed_until > now(session))
    if role == Role.MODERATOR:
        query = query.where(Case.level == Role.MODERATOR)
    for column, value in (
        (Case.verdict, wanted.verdict),
        (Case.job_id, wanted.job_id),
        (Case.reason, wanted.reason),
        (Case.level, wanted.level),
    ):
        query = query if value is None else query.where(column == value)
    return query


def is_free(moment: datetime) -> ColumnElement[bool]:
    """Whether a case can be claimed by anybody: it is open, or its claim ran out."""
    expired = and_(Case.state == CaseState.CLAIMED, Case.claimed_until <= moment)
    return or_(Case.state.in_(sources(CaseState.CLAIMED)), expired)


def counts(session: Session, account_id: str) -> Counts:
    """How much there is to do."""
    moment = now(session)
    mine = (Case.account_id == account_id, JOB_IS_THERE)
    queries = (
        (UNDECIDED, is_free(moment), Case.level == Role.MODERATOR),
        (UNDECIDED, is_free(moment), Case.level == Role.LEAD),
        (UNDECIDED, Case.claimed_until > moment),
        (Case.decided_at.is_not(None),),
    )
    row = session.execute(select(*(_counted(*mine, *narrowed) for narrowed in queries))).one()
    return Counts(*tuple(row))


def _counted(*narrowed: ColumnElement[bool]) -> ColumnElement[int]:
    found: Select[int] = select(literal_column("1")).select_from(Case).where(*narrowed).limit(COUNTED).correlate(Job)
    return select(func.count()).select_from(found.subquery()).scalar_subquery()


def campaigns(session: Session, account_id: str, most: int = 50) -> list[Campaign]:
    """The newest jobs with undecided cases."""
    mine = (Case.account_id == account_id, UNDECIDED)
    # From job to job by the index: one of them may have a hundred thousand cases.
    newest: Select[str, int] = select(func.max(Case.job_id).label("job_id"), literal_column("1").label("number"))
    jobs = newest.where(*mine).cte("jobs", recursive=True)
    older = select(func.max(Case.job_id)).where(*mine, Case.job_id < jobs.c.job_id).scalar_subquery()
    jobs = jobs.union_all(select(older, jobs.c.number + 1).where(jobs.c.number < most, jobs.c.job_id.is_not(None)))
    query = (
        select(Job.id, Job.name, Job.created_at, _counted(*mine, Case.job_id == Job.id))
        .join(jobs, Job.id == jobs.c.job_id)
        .where(Job.deleted_at.is_(None))
        .order_by(Job.id.desc())
    )
    return [Campaign(*row) for row in session.execute(query)]


def get(session: Session, account_id: str, case_id: str) -> Case:
    """A case with its item (faces, weights) and job. Raises NotFound, also where its job is deleted."""
    found = _one(session, account_id, Case.id == case_id)
    if found is None:
        raise NotFound(f"no case {case_id} in this account: it may have been deleted with its job")
    return found


def of_item(session: Session, account_id: str, item_id: str) -> Case | None:
    """The case of an item, likewise; None where there is none."""
    return _one(session, account_id, Case.item_id == item_id)


def _one(session: Session, account_id: str, which: ColumnElement[bool]) -> Case | None:
    query = select(Case).where(Case.account_id == account_id, which, JOB_IS_THERE).options(*LOADED)
    return session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
