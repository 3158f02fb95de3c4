"""The house expands beside its chores: only while it leads, through kills, and without keeping a stop waiting."""

import logging
import signal

import pytest

from shield.errors import StorageUnavailable
from tests.worker.conftest import House, RedisServer, Workers, stop, wait_until
from tests.worker.test_expand import LINES, begin, custom_ids, expander, line
from worker.house import ExpandLoop


def test_nothing_is_expanded_before_this_process_leads_nor_after_it(house: House) -> None:
    first = begin(house, line(0))
    loop = ExpandLoop(expander(house), 0.01)
    loop.lead(False)
    loop.start()
    try:
        loop._thread.join(0.3)  # as many chances as it has in that time
        assert house.job(first).state == "expanding"
        loop.lead(True)
        wait_until(lambda: house.job(first).state == "queued")
        loop.lead(False)
        second = begin(house, line(0))
    finally:
        loop.stop()
    assert not loop._thread.is_alive()
    assert house.job(second).state == "expanding"


def test_storage_that_is_away_stops_no_later_step(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    job = begin(house, line(0))
    taken = expander(house)
    turn, away = taken.turn, iter([True, True])

    def turned() -> bool:
        if next(away, False):
            raise StorageUnavailable("the database went away")
        return turn()

    monkeypatch.setattr(taken, "turn", turned)
    loop = ExpandLoop(taken, 0.01)
    loop.lead(True)
    loop.start()
    try:
        wait_until(lambda: house.job(job).state == "queued")
    finally:
        loop.stop()
    messages = [record.getMessage() for record in caplog.records]
    waits = "expand waits: StorageUnavailable: the database went away"
    assert messages == [waits, "expand works again"]


def test_a_house_that_is_killed_in_mid_expansion_loses_no_line_and_doubles_none(
    house: House, server: RedisServer, workers: Workers
) -> None:
    server.start()
    lines = 20 * LINES
    job = begin(house, b"".join(line(n) for n in range(lines)))
    killed = workers.start("worker", "house")
    wait_until(lambda: 0 < house.job(job).total < lines)
    stop(killed, signal.SIGKILL)
    assert house.job(job).state == "expanding"
    following = workers.start("worker", "house")
    wait_until(lambda: house.job(job).state == "queued")
    assert custom_ids(house, job) == [str(n) for n in range(lines)]
    house.check()
    assert stop(following) == 0


def test_a_house_that_is_told_to_stop_in_mid_expansion_stops_cleanly(
    house: House, server: RedisServer, workers: Workers
) -> None:
    server.start()
    job = begin(house, b"".join(line(n) for n in range(50 * LINES)))
    stopped = workers.start("worker", "house")
    wait_until(lambda: house.job(job).total > 0)
    assert stop(stopped) == 0
    assert 0 < house.job(job).total < 50 * LINES
    assert house.job(job).state == "expanding"
    assert "Traceback" not in workers.log()


def test_lines_become_results_through_house_and_workers_and_the_job_ends(
    house: House, server: RedisServer, workers: Workers
) -> None:
    server.start()
    content = b"".join(b'{"url": "http://127.0.0.1:9/%d.jpg"}\n' % n for n in range(40)) + b"bad\n"
    job = begin(house, content)
    workers.start("worker", "house")
    workers.start(SHIELD_EGRESS_ALLOW_LOOPBACK="true")
    wait_until(lambda: house.ended(job))
    row = house.job(job)
    assert (row.total, row.failed, row.rejected) == (40, 40, 1)
    assert set(house.outcomes(job)) == {"fetch_failed"}
    house.check()
