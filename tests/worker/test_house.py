"""The house chores: one leader, and trouble that is logged once."""

import logging
import signal
import socket
from pathlib import Path

import pytest
from sqlalchemy import text

from shield.db import Database
from tests.worker.conftest import House, RedisServer, Workers, stop, wait_until
from tests.worker.test_processes import expire
from worker.house import Chore, FileLeadership, PostgresLeadership

LEADS = (
    "select pid from pg_locks where locktype = 'advisory' and granted"
    " and database = (select oid from pg_database where datname = current_database())"
)


def leaders(house: House) -> list[int]:
    """The connections that hold the lead."""
    with house.database.read() as session:
        return list(session.scalars(text(LEADS)))


def test_one_of_two_leads_and_the_other_follows_when_it_has_gone(tmp_path: Path) -> None:
    first, second = FileLeadership(tmp_path / "house.lock"), FileLeadership(tmp_path / "house.lock")
    assert [first.held(), second.held(), first.held()] == [True, False, True]
    first.give_up()
    assert [second.held(), first.held()] == [True, False]
    del second
    assert first.held()


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_one_of_two_machines_leads_and_the_other_follows_when_its_connection_dies(house: House, url: str) -> None:
    databases = Database(url), Database(url)
    first, second = (PostgresLeadership(database) for database in databases)
    assert [first.held(), second.held(), first.held()] == [True, False, True]
    with house.database.write() as session:
        session.execute(text("select pg_terminate_backend(:pid)"), {"pid": leaders(house)[0]})
    wait_until(lambda: not leaders(house))
    assert [second.held(), first.held(), first.held(), second.held()] == [True, False, False, True]
    second.give_up()
    wait_until(lambda: not leaders(house))
    assert [first.held(), second.held()] == [True, False]
    for database in databases:
        database.close()


def test_a_database_that_is_away_is_led_by_nobody() -> None:
    database = Database("postgresql://127.0.0.1:1/shield")
    leadership = PostgresLeadership(database)
    assert [leadership.held(), leadership.held()] == [False, False]
    database.close()


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_of_two_house_processes_one_leads_and_the_other_takes_over_when_it_is_killed(
    house: House, server: RedisServer, workers: Workers
) -> None:
    server.start()
    first = workers.start("worker", "house")
    wait_until(lambda: leaders(house))
    [leader] = leaders(house)
    second = workers.start("worker", "house")
    wait_until(lambda: workers.log().count("ready, process") == 2)
    assert leaders(house) == [leader]
    stop(first, signal.SIGKILL)
    wait_until(lambda: leaders(house) not in ([], [leader]))
    house.submit(b"face 1")
    wait_until(lambda: server.waiting("interactive") == 1)
    assert stop(second) == 0


def test_a_redis_that_takes_connections_and_never_answers_holds_up_no_sweep(house: House, workers: Workers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        job = house.submit(b"face 1")
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        workers.start("worker", "house", SHIELD_REDIS_URL=url)
        connection, _ = silent.accept()  # the relay waits for it now
        with connection:
            expire(house, job)
            wait_until(lambda: house.chunks(job)[0].state == "ready")
        assert "relay waits" not in workers.log()  # it is waiting still


def test_a_house_that_is_told_to_stop_while_redis_hangs_gives_up_the_lead_at_once(
    house: House, workers: Workers
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        job = house.submit(b"face 1")
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        first = workers.start("worker", "house", SHIELD_REDIS_URL=url)
        connection, _ = silent.accept()  # its relay waits for it now
        with connection:
            workers.start("worker", "house", SHIELD_REDIS_URL=url)
            wait_until(lambda: workers.log().count("ready, process") == 2)
            first.send_signal(signal.SIGTERM)
            expire(house, job)
            wait_until(lambda: house.chunks(job)[0].state == "ready")
            assert first.poll() is None  # it waits still, and the other one has swept
            assert first.wait(60) == 0


def test_trouble_is_logged_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    faults = iter([None, OSError("away"), OSError("away"), None, None])

    def work() -> int:
        fault = next(faults)
        if fault is not None:
            raise fault
        return 0

    chore = Chore("relay", 0.0, work)
    for _ in range(5):
        chore.turn()
    assert [record.getMessage() for record in caplog.records] == ["relay waits: OSError: away", "relay works again"]
