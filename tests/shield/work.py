"""Small steps that tests of the ledger share: submit, scan by hand, and check the invariants by SQL."""

from collections import Counter

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from shield import dispatch, jobs, policies
from shield.dispatch import Lease
from shield.models import Case, Event, Face, Item, Job
from shield.outcomes import Failed, Scanned
from shield.policy import FaceFacts, Judgement
from shield.states import ITEM_TERMINAL, EventType, JobState, Verdict

WEIGHTS = "a" * 64
FACE = FaceFacts(1.0, 2.0, 30.0, 40.0, 0.9, 0.7, ((1.0, 2.0),) * 6)


def submit(session: Session, account_id: str, items: int, chunk_items: int = 4) -> Job:
    policies.register_weights(session, WEIGHTS, "test", "1", 0.8, 0.5)
    new = [jobs.NewItem(blob=f"{n:064x}", custom_id=f"photo {n}") for n in range(items)]
    return jobs.submit(session, account_id, new, chunk_items)


def scanned(item_id: str, verdict: Verdict = Verdict.SUSPECT) -> Scanned:
    return Scanned(
        item_id=item_id,
        judgement=Judgement(verdict, ("because",), 0.7),
        faces=(FACE,),
        width=100,
        height=80,
        format="JPEG",
        sha256="b" * 64,
        view_blob="c" * 64,
        weights_sha256=WEIGHTS,
        policy_version="default/test-1",
    )


def failed(item_id: str) -> Failed:
    return Failed(item_id, "truncated", "the file ends early")


def take(session: Session, seconds: float = 60.0) -> Lease:
    held = dispatch.lease_next(session, seconds)
    assert held is not None
    return held


def check_invariants(session: Session) -> None:
    """I2 to I4 and I7, by counting rows."""
    ends = select(Event.data).where(Event.type.in_((EventType.JOB_ENDED, EventType.JOB_CANCELED)))
    told = Counter(data["job_id"] for data in session.scalars(ends))
    for job in session.scalars(select(Job)):
        rows = dict(
            session.execute(select(Item.state, func.count()).where(Item.job_id == job.id).group_by(Item.state)).all()
        )
        assert sum(rows.values()) == job.total
        assert (rows.get("done", 0), rows.get("failed", 0), rows.get("canceled", 0)) == (
            job.done,
            job.failed,
            job.canceled,
        )
        terminal = sum(rows.get(state, 0) for state in ITEM_TERMINAL)
        assert (job.state == JobState.ENDED) == (terminal == job.total)
        assert told[job.id] == (job.state == JobState.ENDED)
        opened = session.scalars(select(Case.item_id).where(Case.job_id == job.id, Case.reason == "flagged")).all()
        flagged = select(Item.id).where(Item.job_id == job.id, Item.verdict.in_((Verdict.FAKE, Verdict.SUSPECT)))
        assert job.deleted_at is not None or sorted(opened) == sorted(session.scalars(flagged))
    orphans = "select count(*) from face where item_id not in (select id from item where state = 'done')"
    assert session.execute(text(orphans)).scalar_one() == 0
    doubled = select(Face.item_id, Face.ordinal).group_by(Face.item_id, Face.ordinal).having(func.count() > 1)
    assert session.execute(doubled).all() == []
