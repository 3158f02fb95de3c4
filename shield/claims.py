"""Claims: a reviewer takes a case, so that no two work on one.

A claim is a lease. Whoever decides (shield.decisions) must hold its token: a page that was left open decides nothing
once somebody else has the case. A claim that ran out counts as open at once, whether or not it was swept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NoReturn

from sqlalchemy import ColumnElement, Select, and_, case, or_, select, update
from sqlalchemy.orm import Session, aliased

from shield.cases import ANY, JOB_IS_THERE, LOADED, CaseFilter, Sort, get, is_free, keys_of, matching, ordered
from shield.db import new_id, now
from shield.errors import AlreadyDecided, CaseTaken, ClaimLost, ScopeMissing
from shield.models import Case, Decision
from shield.states import Answer, CaseState, Role

FREED = {"state": CaseState.OPEN, "claimed_by": None, "claim_token": None, "claimed_until": None}
UNSYNCHRONISED = {"synchronize_session": False}


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who acts: the id of a moderator, of a key or of a session, and what they may do. A key counts as a lead."""

    id: str
    role: Role

    @property
    def leads(self) -> bool:
        """Whether they may decide what was escalated, and undo what others decided."""
        return self.role != Role.MODERATOR


@dataclass(frozen=True, slots=True)
class Claim:
    """A reviewer's timed hold on a case: `case` has its item (faces, weights) and job loaded."""

    case: Case
    token: str
    until: datetime


def claim(session: Session, account_id: str, case_id: str, reviewer: Reviewer, seconds: float) -> Claim:
    """Take a case. Who has it already keeps the token, and holds it for so long from now.

    Raises CaseTaken, AlreadyDecided, ScopeMissing (it is a lead's), NotFound.
    """
    moment = now(session)
    until = moment + timedelta(seconds=seconds)
    held = and_(Case.state == CaseState.CLAIMED, Case.claimed_by == reviewer.id)
    taking = update(Case).where(Case.id == case_id, Case.account_id == account_id, JOB_IS_THERE)
    if not reviewer.leads:
        taking = taking.where(Case.level == Role.MODERATOR)
    token = case((held, Case.claim_token), else_=new_id("clm"))
    taking = taking.where(or_(is_free(moment), held)).values(
        state=CaseState.CLAIMED, claimed_by=reviewer.id, claim_token=token, claimed_until=until
    )
    taken = session.scalars(taking.returning(Case.claim_token), execution_options=UNSYNCHRONISED).one_or_none()
    if taken is None:
        refuse(session, account_id, case_id, reviewer)
    return Claim(get(session, account_id, case_id), taken, until)


def refuse(session: Session, account_id: str, case_id: str, reviewer: Reviewer | None = None) -> NoReturn:
    """Say why a case cannot be claimed by this reviewer, or, without one, why its claim does not hold.

    Raises AlreadyDecided, CaseTaken, ScopeMissing, ClaimLost, NotFound.
    """
    row = get(session, account_id, case_id)
    if row.state == CaseState.DECIDED:
        how = "upheld" if row.answer == Answer.UPHOLD else "overturned"
        raise AlreadyDecided(f"this case was {how} already, and nothing was changed: undo that first, or go on")
    if reviewer is not None and row.level == Role.LEAD and not reviewer.leads:
        raise ScopeMissing("this case was escalated: a lead decides it. Go on with the next one")
    if row.claimed_until is not None and row.claimed_until > now(session):
        raise CaseTaken("somebody else has this case, and nothing was changed: go on with the next one")
    raise ClaimLost("your claim on this case ran out, and nothing was changed: claim it again, then answer")


def claim_next(
    session: Session,
    account_id: str,
    reviewer: Reviewer,
    seconds: float,
    sort: Sort = Sort.PRIORITY,
    wanted: CaseFilter = ANY,
    skip: Sequence[str] = (),
) -> Claim | None:
    """Take the first case that is free, is not in `skip`, and was not passed on by this reviewer; None without one.

    Passed on: skipped or escalated, unless that was taken back.
    """
    query = _next(session, account_id, reviewer, sort, wanted, skip).with_only_columns(Case.id)
    found = session.scalars(query.with_for_update(of=Case, skip_locked=True)).first()
    return None if found is None else claim(session, account_id, found, reviewer, seconds)


def peek_next(
    session: Session,
    account_id: str,
    reviewer: Reviewer,
    sort: Sort = Sort.PRIORITY,
    wanted: CaseFilter = ANY,
    skip: Sequence[str] = (),
) -> Case | None:
    """The case that `claim_next` would take now, unclaimed: for a page that loads its picture ahead."""
    return session.scalars(_next(session, account_id, reviewer, sort, wanted, skip).options(*LOADED)).first()


def _next(
    session: Session, account_id: str, reviewer: Reviewer, sort: Sort, wanted: CaseFilter, skip: Sequence[str]
) -> Select[Case]:
    wanted = replace(wanted, state=CaseState.OPEN)
    undo = aliased(Decision)
    passed_on = select(Decision.id).where(
        Decision.case_id == Case.id,
        Decision.actor == reviewer.id,
        Decision.answer.in_((Answer.SKIP, Answer.ESCALATE)),
        ~select(undo.id).where(undo.undoes == Decision.id).exists(),
    )
    query = matching(session, account_id, reviewer.role, wanted).where(~passed_on.exists(), Case.id.not_in(skip))
    return ordered(query, keys_of(sort, wanted), wanted.name).limit(1)


def renew(session: Session, account_id: str, case_id: str, token: str, seconds: float) -> datetime:
    """Hold a case for so long from now; until when. Raises ClaimLost, CaseTaken, AlreadyDecided, NotFound."""
    moment = now(session)
    until = moment + timedelta(seconds=seconds)
    held = update(Case).where(Case.id == case_id, is_held(account_id, token, moment)).values(claimed_until=until)
    if session.scalars(held.returning(Case.id), execution_options=UNSYNCHRONISED).one_or_none() is None:
        refuse(session, account_id, case_id)
    return until


def is_held(account_id: str, token: str, moment: datetime) -> ColumnElement[bool]:
    """Whether a case of this account is claimed under this token, and the claim lives."""
    claimed = and_(Case.state == CaseState.CLAIMED, Case.claim_token == token, Case.claimed_until > moment)
    return and_(Case.account_id == account_id, claimed, JOB_IS_THERE)


def release(session: Session, account_id: str, case_id: str, token: str) -> bool:
    """Give a case back undecided. False, and nothing changed, where the claim is lost."""
    held = update(Case).where(Case.id == case_id, is_held(account_id, token, now(session))).values(FREED)
    return session.scalars(held.returning(Case.id), execution_options=UNSYNCHRONISED).one_or_none() is not None


def sweep(session: Session, limit: int = 100) -> int:
    """Return the cases whose claim ran out, of all accounts; how many."""
    expired = select(Case.id).where(Case.claimed_until <= now(session)).order_by(Case.claimed_until).limit(limit)
    ids = session.scalars(expired.with_for_update(skip_locked=True)).all()
    session.execute(update(Case).where(Case.id.in_(ids)).values(FREED), execution_options=UNSYNCHRONISED)
    return len(ids)
