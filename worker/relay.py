"""The relay: publishes what the outbox still holds, by turn, as far as Redis has room, then strikes it.

Redis never holds more than a window of messages a lane, however many chunks wait: what is in SQL can still be
reordered and canceled. A crash between publishing and striking sends a message twice, which is harmless: the second
finds no ready chunk.
"""

from shield import outbox
from shield.db import Database
from shield.queue import LANES, Queue, QueueUnavailable


def relay(database: Database, queue: Queue, window: int) -> int:
    """Publish the next owed messages, up to `window` in each lane; how many. Raises QueueUnavailable."""
    return sum(_relay_lane(database, queue, lane, window) for lane in LANES)


def _relay_lane(database: Database, queue: Queue, lane: str, window: int) -> int:
    with database.read() as session:
        if not outbox.owed(session, lane, 1):
            return 0  # Redis is not asked for nothing
    room = window - queue.depth(lane)
    if room <= 0:
        return 0
    with database.read() as session:
        owed = outbox.owed(session, lane, room)
    count = queue.publish([message for _, message in owed])
    if count:
        with database.write() as session:
            outbox.sent(session, [row for row, _ in owed[:count]])
    if count < len(owed):
        raise QueueUnavailable(f"Redis took {count} of {len(owed)} messages; the outbox keeps the rest")
    return count
