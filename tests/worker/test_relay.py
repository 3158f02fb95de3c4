"""The relay: what is owed is sent, and struck only when it was."""

import pytest

from shield import outbox
from shield.queue import LANES, CeleryQueue, MemoryQueue, Message, QueueUnavailable
from tests.worker.conftest import House, RedisServer
from worker.relay import relay


def owed(house: House) -> list[str]:
    with house.database.read() as session:
        return [message.chunk_id for lane in LANES for _, message in outbox.owed(session, lane, 100)]


class NarrowQueue(MemoryQueue):
    """Takes two messages, then fails."""

    def publish(self, messages: list[Message]) -> int:
        return super().publish(messages[:2]) and 2 if len(messages) > 2 else super().publish(messages)


def test_what_is_owed_is_sent_in_order_and_struck(house: House) -> None:
    job = house.submit(b"1", b"2", b"3", chunk_items=1)
    queue = MemoryQueue()
    assert relay(house.database, queue, 1000) == 3
    assert [message.chunk_id for message in queue.messages] == [chunk.id for chunk in house.chunks(job)]
    assert owed(house) == []
    assert relay(house.database, queue, 1000) == 0


def test_what_the_queue_did_not_take_is_still_owed(house: House) -> None:
    job = house.submit(b"1", b"2", b"3", chunk_items=1)
    with pytest.raises(QueueUnavailable, match="took 2 of 3"):
        relay(house.database, NarrowQueue(), 1000)
    assert owed(house) == [house.chunks(job)[2].id]


def test_without_redis_everything_is_still_owed_and_goes_when_it_comes(house: House, server: RedisServer) -> None:
    house.submit(b"1")
    with pytest.raises(QueueUnavailable):
        relay(house.database, CeleryQueue(server.url), 1000)
    assert len(owed(house)) == 1
    server.start()
    assert relay(house.database, CeleryQueue(server.url), 1000) == 1
    assert sum(server.waiting(lane) for lane in LANES) == 1
