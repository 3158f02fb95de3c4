"""Decisions: what reviewers answer to cases. Rows are only ever added; an undo is a further row, not a change."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, insert, literal, or_, select, tuple_, update
from sqlalchemy.orm import Session, joinedload

from shield import audit, claims, duplicates, events
from shield.audit import Action
from shield.cases import ESCALATED, JOB_IS_THERE, LOADED, get, is_free, priority
from shield.claims import FREED, UNSYNCHRONISED, Claim, Reviewer, is_held
from shield.db import Database, first_id, new_id, now
from shield.errors import InvalidSubmission, NothingToUndo, ScopeMissing, TooManyDecisions
from shield.models import Case, Decision
from shield.states import Answer, CaseState, DecisionReason, EventType, Role

LONGEST_NOTE = 4000  # characters
MINUTE = 60.0
PAGE = 200  # rows of an export that are read together
FINAL = (Answer.UPHOLD, Answer.OVERTURN)
REASONS: dict[Answer, tuple[DecisionReason, ...]] = {  # what may be given with each answer; it may be left out
    Answer.UPHOLD: (
        DecisionReason.IMPERSONATION,
        DecisionReason.INTIMATE,
        DecisionReason.FRAUD,
        DecisionReason.DECEPTION,
        DecisionReason.GENERATED,
        DecisionReason.OTHER,
    ),
    Answer.OVERTURN: (
        DecisionReason.AUTHENTIC,
        DecisionReason.RETOUCHED,
        DecisionReason.NOT_A_FACE,
        DecisionReason.SATIRE,
        DecisionReason.OTHER,
    ),
    Answer.ESCALATE: (DecisionReason.UNSURE, DecisionReason.OTHER),
    Answer.SKIP: (DecisionReason.UNSURE, DecisionReason.OTHER),
}


@dataclass(frozen=True, slots=True)
class Ruling:
    """An answer with its reason and note. Raises InvalidSubmission where they do not go together."""

    answer: Answer
    reason: DecisionReason | None = None
    note: str = ""

    def __post_init__(self) -> None:
        allowed = REASONS.get(self.answer)
        if allowed is None:
            raise InvalidSubmission(f"{self.answer} is no answer: {', '.join(REASONS)} are", "/answer")
        if self.reason is not None and self.reason not in allowed:
            raise InvalidSubmission(f"{self.answer} goes with one of {', '.join(allowed)}, or no reason", "/reason")
        if len(self.note) > LONGEST_NOTE or "\0" in self.note:
            raise InvalidSubmission(f"a note is a text of up to {LONGEST_NOTE} characters: shorten it", "/note")


@dataclass(frozen=True, slots=True)
class Bulk:
    """What became of a bulk decision: the cases that were decided, and those that somebody else has or decided."""

    decided: list[str]
    passed_over: list[str]


def decide(session: Session, account_id: str, case_id: str, token: str, ruling: Ruling, reviewer: Reviewer) -> Decision:
    """Answer a case under a live claim: uphold and overturn decide it, escalate and skip open it again.

    Raises ClaimLost, CaseTaken, AlreadyDecided, NotFound, InvalidSubmission (escalating what is a lead's already).
    """
    guard = and_(Case.id == case_id, is_held(account_id, token, now(session)))
    if not _answer(session, account_id, guard, ruling, reviewer):
        if ruling.answer == Answer.ESCALATE and get(session, account_id, case_id).level == Role.LEAD:
            raise InvalidSubmission("this case was escalated already: uphold or overturn it", "/answer")
        claims.refuse(session, account_id, case_id)
    return history(session, account_id, case_id)[-1]


def decide_many(
    session: Session,
    account_id: str,
    case_ids: Sequence[str],
    ruling: Ruling,
    reviewer: Reviewer,
    most: int,
    a_minute: int,
) -> Bulk:
    """Uphold, overturn or escalate many cases at once: those that are free, or claimed by this reviewer.

    Raises TooManyDecisions where this reviewer's decisions of the last minute would be more than `a_minute`;
    InvalidSubmission for more than `most` cases, or another answer.
    """
    if ruling.answer == Answer.SKIP:
        raise InvalidSubmission("cases are skipped one by one: uphold, overturn or escalate these", "/answer")
    if not 1 <= len(case_ids) <= most:
        raise InvalidSubmission(f"1 to {most} cases are decided at once, not {len(case_ids)}: choose fewer", "/cases")
    _take_turns(session, reviewer.id)
    done = _of_last_minute(session, account_id, reviewer.id)
    if done + len(case_ids) > a_minute:
        raise TooManyDecisions(
            f"{done} decisions of yours in the last minute and these {len(case_ids)} are more than {a_minute}:"
            " look once more at what you chose, wait a minute, or choose fewer",
            MINUTE,
        )
    mine = and_(Case.state == CaseState.CLAIMED, Case.claimed_by == reviewer.id)
    guard = and_(Case.id.in_(case_ids), Case.account_id == account_id, JOB_IS_THERE)
    guard = and_(guard, or_(is_free(now(session)), mine))
    if not reviewer.leads:
        guard = and_(guard, Case.level == Role.MODERATOR)
    decided = _answer(session, account_id, guard, ruling, reviewer)
    if decided:
        audit.note(
            session, Action.CASES_DECIDED, reviewer.id, account_id, cases=str(len(decided)), answer=ruling.answer
        )
    return Bulk(decided, [case_id for case_id in case_ids if case_id not in set(decided)])


def _take_turns(session: Session, actor: str) -> None:
    """Let one bulk decision of an actor be made at a time: two at once would count without each other.

    On PostgreSQL by a lock of its own, which is held by nothing else: the account's row is locked behind cases' rows
    where an event is written. On SQLite the transaction began with BEGIN IMMEDIATE, and is alone.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"bulk {actor}", 0))))


def _of_last_minute(session: Session, account_id: str, actor: str) -> int:
    since = first_id("dec", now(session) - timedelta(seconds=MINUTE))
    query = select(func.count()).select_from(Decision)
    query = query.where(Decision.account_id == account_id, Decision.actor == actor, Decision.id >= since)
    return session.scalars(query).one()


def _answer(
    session: Session, account_id: str, guard: ColumnElement[bool], ruling: Ruling, reviewer: Reviewer
) -> list[str]:
    """Answer the cases that the guard lets through, claimed or, in bulk, claimed and decided in one; their ids."""
    if ruling.answer == Answer.ESCALATE:
        guard = and_(guard, Case.level == Role.MODERATOR)
    # Locked by rising id, so that no two who choose the same cases wait for each other in a ring.
    query = select(Case.id).where(guard).order_by(Case.id).with_for_update(of=Case)
    ids = list(session.scalars(query))
    if not ids:
        return []
    moment = now(session)
    changes: dict[str, object] = {**FREED}
    if ruling.answer in FINAL:
        changes |= {"state": CaseState.DECIDED, "answer": ruling.answer}
        changes |= {"decided_at": moment, "decided_by": reviewer.id}
    elif ruling.answer == Answer.ESCALATE:
        changes |= {"level": Role.LEAD, "priority": ESCALATED}
    session.execute(update(Case).where(Case.id.in_(ids)).values(changes), execution_options=UNSYNCHRONISED)
    rows = [
        {
            "id": new_id("dec"),
            "account_id": account_id,
            "case_id": case_id,
            "answer": ruling.answer,
            "reason": ruling.reason,
            "note": ruling.note,
            "actor": reviewer.id,
            "decided_at": moment,
        }
        for case_id in ids
    ]
    session.execute(insert(Decision), rows)
    if ruling.answer in FINAL:
        duplicates.note(session, account_id, ids)
        events.cases_changed(session, account_id, EventType.CASE_DECIDED, ids)
    return ids


def undo(session: Session, account_id: str, case_id: str, reviewer: Reviewer, seconds: float) -> Claim:
    """Take back the last answer to a case, and claim it: one's own, or, for a lead and an admin, anybody's.

    Raises NothingToUndo (nothing was answered, or somebody went on with it), ScopeMissing, NotFound.
    """
    locked = select(Case).where(Case.id == case_id, Case.account_id == account_id).with_for_update(of=Case)
    session.scalars(locked).one_or_none()
    row = get(session, account_id, case_id)
    answers = history(session, account_id, case_id)
    if not answers or answers[-1].answer == Answer.UNDO:
        raise NothingToUndo("nothing was answered to this case that could be taken back")
    last = answers[-1]
    if last.actor != reviewer.id and not reviewer.leads:
        raise ScopeMissing("somebody else answered this case: only a lead may take that back")
    _take_back(session, row, Answer(last.answer), reviewer)
    session.add(
        Decision(
            id=new_id("dec"),
            account_id=account_id,
            case_id=case_id,
            answer=Answer.UNDO,
            actor=reviewer.id,
            undoes=last.id,
            decided_at=now(session),
        )
    )
    session.flush()
    claim = claims.claim(session, account_id, case_id, reviewer, seconds)
    if last.actor != reviewer.id:
        audit.note(session, Action.DECISION_UNDONE, reviewer.id, account_id, case_id, of=last.actor)
    return claim


def _take_back(session: Session, row: Case, answer: Answer, reviewer: Reviewer) -> None:
    """Open a locked case as it was before this answer. Raises NothingToUndo where somebody has it."""
    if answer in FINAL:
        duplicates.forget(session, [row.id])
        row.answer = row.decided_at = row.decided_by = None
    elif row.claimed_until is not None and row.claimed_until > now(session) and row.claimed_by != reviewer.id:
        raise NothingToUndo("somebody else has this case by now: it is theirs to answer")
    if answer == Answer.ESCALATE:
        row.level, row.priority = Role.MODERATOR, priority(row.verdict, row.score)
    row.state, row.claimed_by, row.claim_token, row.claimed_until = CaseState.OPEN, None, None, None
    session.flush()
    if answer in FINAL:
        events.cases_changed(session, row.account_id, EventType.CASE_REOPENED, [row.id])


def history(session: Session, account_id: str, case_id: str) -> list[Decision]:
    """All that was answered to a case, the oldest first."""
    query = select(Decision).where(Decision.account_id == account_id, Decision.case_id == case_id)
    # By the database's clock: the ids are of as many clocks as there are machines.
    return list(session.scalars(query.order_by(Decision.decided_at, Decision.id)))


def export(
    database: Database, account_id: str, since: datetime | None = None, until: datetime | None = None
) -> Iterator[tuple[Case, Decision]]:
    """Decided cases with the decision that stands, the oldest first; each case with its item (faces, weights) and job.

    Read page by page in short sessions. What is decided or undone meanwhile may be told or not.
    """
    narrowed = [Case.account_id == account_id, Case.decided_at.is_not(None), JOB_IS_THERE]
    if since is not None:
        narrowed.append(Case.decided_at >= since)
    if until is not None:
        narrowed.append(Case.decided_at < until)
    query = select(Case).where(*narrowed).order_by(Case.decided_at, Case.id).limit(PAGE).options(*LOADED)
    further = query
    while True:
        with database.read() as session:
            page = session.scalars(further).all()
            standing = _standing(session, account_id, [case.id for case in page])
        yield from ((case, standing[case.id]) for case in page if case.id in standing)
        if len(page) < PAGE:
            return
        place = (literal(page[-1].decided_at, Case.decided_at.type), page[-1].id)
        further = query.where(tuple_(Case.decided_at, Case.id) > tuple_(*place))


def _standing(session: Session, account_id: str, case_ids: Sequence[str]) -> dict[str, Decision]:
    """The last uphold or overturn of each of these cases."""
    mine = select(Decision).where(Decision.account_id == account_id, Decision.case_id.in_(case_ids))
    rows = session.scalars(mine.where(Decision.answer.in_(FINAL)).order_by(Decision.decided_at, Decision.id))
    return {row.case_id: row for row in rows}


def last_of(session: Session, account_id: str, actor: str, most: int = 20) -> list[Decision]:
    """What this actor answered last, the newest first, each with its case (item, job): for a list to undo from."""
    query = select(Decision).join(Case, Case.id == Decision.case_id)
    query = query.where(Decision.account_id == account_id, Decision.actor == actor, JOB_IS_THERE)
    query = query.order_by(Decision.id.desc()).limit(most)
    return list(session.scalars(query.options(joinedload(Decision.case).options(*LOADED))))
