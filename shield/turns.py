"""Turns: the order in which the chunks of many accounts are leased and sent.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with every chunk of equal weight: a chunk's turn is one
after its account's last waiting chunk, and never before the turn that is served now. So a job of a million images and
one of a hundred take turns, chunk by chunk, from the moment the second arrives; the next chunk is the first entry of an
index, however many wait.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shield.models import Chunk
from shield.states import ChunkState


def served_now(session: Session, lane: str, ahead: bool) -> int:
    """The turn of the next chunk of a lane; 0 when none waits. A chunk that is given back waits from here.

    What is fetched ahead is a queue of its own: slow servers there hold up nobody's turn here.
    """
    first = select(func.min(Chunk.turn)).where(
        Chunk.state == ChunkState.READY, Chunk.lane == lane, Chunk.ahead == ahead
    )
    return session.scalar(first) or 0


def next_of(session: Session, account_id: str, lane: str, ahead: bool) -> int:
    """The turn of an account's next new chunk in a lane."""
    last = session.scalar(
        select(func.max(Chunk.turn)).where(
            Chunk.account_id == account_id, Chunk.state == ChunkState.READY, Chunk.lane == lane, Chunk.ahead == ahead
        )
    )
    now = served_now(session, lane, ahead)
    return now if last is None else max(now, last + 1)
