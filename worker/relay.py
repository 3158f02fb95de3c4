"""The relay: publishes what the outbox still holds, then strikes it.

A crash between the two sends a message twice, which is harmless: the second finds no ready chunk.
"""

from shield import outbox
from shield.db import Database
from shield.queue import Queue, QueueUnavailable

MOST = 1000  # messages a turn, about a second's work


def relay(database: Database, queue: Queue) -> int:
    """Publish the oldest owed messages; how many. Raises QueueUnavailable when the queue takes no more of them."""
    with database.read() as session:
        owed = outbox.owed(session, MOST)
    if not owed:
        return 0
    count = queue.publish([message for _, message in owed])
    if count:
        with database.write() as session:
            outbox.sent(session, [row for row, _ in owed[:count]])
    if count < len(owed):
        raise QueueUnavailable(f"Redis took {count} of {len(owed)} messages; the outbox keeps the rest")
    return count
