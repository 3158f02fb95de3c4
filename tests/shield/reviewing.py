"""Small steps that tests of cases share: items are scanned by hand, and what that opens is claimed and decided."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select, update

from shield import cases, claims, decisions, dispatch
from shield.cases import Sort
from shield.claims import Reviewer
from shield.db import Database, now
from shield.decisions import Ruling
from shield.models import Case
from shield.policy import Judgement
from shield.states import Answer, Role, Verdict
from tests.shield.work import scanned, submit, take

ANNA, BEN, LEAD = (
    Reviewer("mod_anna", Role.MODERATOR),
    Reviewer("mod_ben", Role.MODERATOR),
    Reviewer("mod_l", Role.LEAD),
)
UPHOLD, OVERTURN = Ruling(Answer.UPHOLD), Ruling(Answer.OVERTURN)
ESCALATE, SKIP = Ruling(Answer.ESCALATE), Ruling(Answer.SKIP)
FAKE, SUSPECT, CLEAR = Verdict.FAKE, Verdict.SUSPECT, Verdict.CLEAR

Seen = tuple[Verdict, float]


def open_cases(
    database: Database, account_id: str, seen: Sequence[Seen], looks: Sequence[str] = (), sample: bool = False
) -> list[str]:
    """The ids of the cases of a new job whose items were judged so, in the order of the items."""
    with database.write() as session:
        job = submit(session, account_id, len(seen), chunk_items=64)
        held = take(session)
        outcomes = [
            replace(
                scanned(item.id, verdict),
                judgement=Judgement(verdict, ("because",), score),
                image_hash=looks[number] if looks else None,
                review_sample=sample,
            )
            for number, (item, (verdict, score)) in enumerate(zip(held.items, seen, strict=True))
        ]
        dispatch.record(session, held, outcomes)
        query = select(Case.id).where(Case.job_id == job.id).order_by(Case.item_id)
        return list(session.scalars(query))


def order(database: Database, account_id: str, sort: Sort = Sort.PRIORITY, role: Role = Role.LEAD) -> list[str]:
    with database.read() as session:
        return [case.id for case in cases.queue(session, account_id, role, 100, sort)]


def hold(database: Database, account_id: str, case_id: str, reviewer: Reviewer = ANNA, seconds: float = 60.0) -> str:
    """The token of a claim."""
    with database.write() as session:
        return claims.claim(session, account_id, case_id, reviewer, seconds).token


def answer(
    database: Database, account_id: str, case_id: str, ruling: Ruling = UPHOLD, reviewer: Reviewer = ANNA
) -> None:
    """Claim and decide."""
    token = hold(database, account_id, case_id, reviewer)
    with database.write() as session:
        decisions.decide(session, account_id, case_id, token, ruling, reviewer)


def expire(database: Database, case_id: str) -> None:
    """Let a claim run out."""
    with database.write() as session:
        session.execute(update(Case).where(Case.id == case_id).values(claimed_until=now(session)))


def read(database: Database, account_id: str, case_id: str) -> Case:
    with database.read() as session:
        return cases.get(session, account_id, case_id)
