"""The house expands beside its chores: only while it leads, through kills, and without keeping a stop waiting."""

import logging
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from shield import buckets, expansion
from shield.buckets import Place
from shield.errors import StorageUnavailable
from shield.models import Job
from shield.settings import Settings
from shield.states import SourceKind
from tests.s3 import CREDENTIALS, S3Server
from tests.worker.conftest import PATIENCE, House, RedisServer, Workers, stop, wait_until
from tests.worker.test_expand import LINES, begin, custom_ids, expander, line
from worker.expand import LISTED, STORED, Expander
from worker.house import Beside, Chore


def beside(taken: Expander) -> Beside:
    return Beside(Chore("expand", 0.0, taken.turn), 0.01, taken.stopping)


def stop_loop(loop: Beside) -> None:
    loop.tell_to_stop()
    loop.join(time.monotonic() + 5.0)


def test_nothing_is_expanded_before_this_process_leads_nor_after_it(house: House) -> None:
    first = begin(house, line(0))
    loop = beside(expander(house))
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
        stop_loop(loop)
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
    loop = beside(taken)
    loop.lead(True)
    loop.start()
    try:
        wait_until(lambda: house.job(job).state == "queued")
    finally:
        stop_loop(loop)
    messages = [record.getMessage() for record in caplog.records]
    waits = "expand waits: StorageUnavailable: the database went away"
    assert messages == [waits, "expand works again"]


@pytest.fixture
def tarpit() -> Iterator[socket.socket]:
    """Takes connections, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def hanging(house: House, tarpit: socket.socket, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, Job]:
    """Settings with this S3 server, and a job that lists a prefix there."""
    place = Place("photos", "")
    with house.database.write() as session:
        buckets.grant(session, house.account_id, place)
        job = expansion.submit(session, house.account_id, SourceKind.PREFIX, url=place.url)
    return S3Server("http://{}:{}".format(*tarpit.getsockname())).settings(monkeypatch, house.config.home), job


def test_an_s3_server_that_hangs_holds_up_no_manifest(
    house: House, tarpit: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, listing = hanging(house, tarpit, monkeypatch)
    manifest = begin(house, b"".join(line(n) for n in range(5 * LINES)))
    lister, expanding = (beside(Expander(house.database, house.blobs, config, kinds)) for kinds in (LISTED, STORED))
    for loop in (lister, expanding):
        loop.lead(True)
    lister.start()
    connection, _ = tarpit.accept()  # it hangs from here on
    try:
        expanding.start()
        wait_until(lambda: house.job(manifest).state == "queued")
        assert house.job(listing).state == "expanding"
        assert lister._thread.is_alive()
    finally:
        lister.tell_to_stop()
        stop_loop(expanding)
        tarpit.close()
        connection.close()
        stop_loop(lister)


def test_a_house_beside_an_s3_server_that_hangs_expands_what_is_stored_and_stops_cleanly(
    house: House, server: RedisServer, workers: Workers, tarpit: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    config, listing = hanging(house, tarpit, monkeypatch)
    process = workers.start("worker", "house", SHIELD_S3_ENDPOINT_URL=config.s3_endpoint_url, **CREDENTIALS)
    connection, _ = tarpit.accept()
    with connection:
        manifest = begin(house, b"".join(line(n) for n in range(5 * LINES)))
        wait_until(lambda: house.job(manifest).state == "queued")
        assert house.job(listing).state == "expanding"
        assert stop(process) == 0
    assert "Traceback" not in workers.log()


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
