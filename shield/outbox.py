"""The outbox: what is not yet sent to the queue. Rows are written in the transaction that makes the work."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from shield.models import Chunk, Outbox
from shield.queue import Message

SCAN = "worker.scan"


def owe_scans(session: Session, chunks: Sequence[Chunk], now: datetime) -> None:
    """Note that a scan message is owed for each of these chunks."""
    rows = [
        {"account_id": c.account_id, "task": SCAN, "lane": c.lane, "chunk_id": c.id, "created_at": now} for c in chunks
    ]
    session.execute(insert(Outbox), rows)


def owed(session: Session, limit: int) -> list[tuple[int, Message]]:
    """The oldest messages that are owed: outbox id and message."""
    rows = session.execute(select(Outbox).order_by(Outbox.id).limit(limit)).scalars()
    return [(row.id, Message(row.task, row.lane, row.chunk_id)) for row in rows]


def owed_for(session: Session, job_id: str) -> list[tuple[int, Message]]:
    """The messages that are owed for one job, for the poke right after its submission."""
    rows = session.execute(
        select(Outbox).join(Chunk, Chunk.id == Outbox.chunk_id).where(Chunk.job_id == job_id).order_by(Outbox.id)
    ).scalars()
    return [(row.id, Message(row.task, row.lane, row.chunk_id)) for row in rows]


def sent(session: Session, ids: Sequence[int]) -> None:
    """Strike these from what is owed. Harmless when another process did so first."""
    session.execute(delete(Outbox).where(Outbox.id.in_(ids)))
