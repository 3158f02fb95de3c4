"""The outbox: what is not yet sent to the queue. Rows are written in the transaction that makes the work."""

from collections.abc import Sequence
from typing import cast

from sqlalchemy import Table, delete, select
from sqlalchemy.orm import Session

from shield import rows
from shield.db import now
from shield.models import Chunk, Job, Outbox
from shield.queue import Message

SCAN = "worker.scan"

OUTBOX = cast("Table", Outbox.__table__)


def owe_scans(session: Session, job: Job, chunks: Sequence[tuple[str, int]]) -> None:
    """Note that a scan message is owed for each of these chunks of a job: its id and its turn."""
    moment = now(session)
    owed = [
        {
            "account_id": job.account_id,
            "task": SCAN,
            "lane": job.lane,
            "turn": turn,
            "chunk_id": chunk_id,
            "created_at": moment,
        }
        for chunk_id, turn in chunks
    ]
    rows.add(session, OUTBOX, owed)


def owe_again(session: Session, job: Job, chunk_id: str, turn: int) -> None:
    """Note that a scan message is owed for a chunk that was given back. However often it is, one is owed."""
    if session.scalars(select(Outbox.id).where(Outbox.chunk_id == chunk_id).limit(1)).first() is None:
        owe_scans(session, job, [(chunk_id, turn)])


def owed(session: Session, lane: str, limit: int) -> list[tuple[int, Message]]:
    """The next messages that are owed to a lane, by turn: outbox id and message."""
    query = select(Outbox).where(Outbox.lane == lane).order_by(Outbox.turn, Outbox.id).limit(limit)
    return [(row.id, Message(row.task, row.lane, row.chunk_id)) for row in session.scalars(query)]


def owed_for(session: Session, job_id: str, limit: int) -> list[tuple[int, Message]]:
    """The first messages that are owed for one job, for the poke right after its submission."""
    query = select(Outbox).join(Chunk, Chunk.id == Outbox.chunk_id).where(Chunk.job_id == job_id)
    first = session.scalars(query.order_by(Outbox.id).limit(limit))
    return [(row.id, Message(row.task, row.lane, row.chunk_id)) for row in first]


def strike(session: Session, job_id: str) -> None:
    """Owe no message about this job any more. A row that the relay is striking is left to it."""
    owed = select(Outbox.id).join(Chunk, Chunk.id == Outbox.chunk_id).where(Chunk.job_id == job_id)
    found = owed.with_for_update(skip_locked=True, of=Outbox).cte()
    session.execute(
        delete(Outbox).where(Outbox.id.in_(select(found.c.id))), execution_options={"synchronize_session": False}
    )


def sent(session: Session, ids: Sequence[int]) -> None:
    """Strike these from what is owed. Harmless when another process did so first."""
    session.execute(delete(Outbox).where(Outbox.id.in_(ids)))
