"""Fetching ahead: servers that do not answer hold up their own chunk alone."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import func, select, update

from shield import accounts, dispatch, jobs
from shield.db import now
from shield.dispatch import LeasedItem
from shield.errors import StorageUnavailable
from shield.jobs import NewItem
from shield.models import Chunk, Job, Outbox
from tests.worker.conftest import House, wait_until
from tests.worker.stub import CARD, StubScanner
from worker import ahead
from worker.app import register
from worker.loop import ScanLoop
from worker.scan import Scanning
from worker.sources import Fetched


class Servers:
    """Other people's servers: the URL is the image; those of /dead answer once `hold` is set."""

    def __init__(self) -> None:
        self.hold = threading.Event()
        self.asked: list[str] = []
        self.away = False

    def fetch_all(self, items: Sequence[LeasedItem], at_once: int) -> Iterator[Fetched]:
        for item in items:
            url = item.url or ""
            self.asked.append(url)
            if self.away:
                raise StorageUnavailable("the blob store is away")
            if "dead" in url:
                self.hold.wait(60)
            yield item, b"face " + (item.url or item.id).encode()


@pytest.fixture
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.hold.set()


def scanning_with(house: House, servers: Servers, scanner: StubScanner) -> Scanning:
    return Scanning(house.database, house.blobs, scanner, register(house.database, CARD), house.config, servers)


def submit(house: House, name: str, *urls: str, chunk_items: int = 4) -> Job:
    """A job of an account of this name."""
    with house.database.write() as session:
        account_id = house.account_id if name == "acme" else accounts.create_account(session, name).id
        return jobs.submit(session, account_id, [NewItem(url=url) for url in urls], chunk_items)


def state(house: House, job: Job) -> str:
    with house.database.read() as session:
        return str(jobs.get(session, job.account_id, job.id).state)


def test_an_account_whose_servers_never_answer_holds_up_nobody_else(house: House, servers: Servers) -> None:
    dead = submit(house, "slow", *[f"http://dead.example/{n}" for n in range(400)])
    scanning = scanning_with(house, servers, StubScanner())
    scanning.scan_ready()
    later = [submit(house, name, "http://good.example/1", "http://good.example/2") for name in ("beta", "gamma")]
    local = house.submit(b"face 1")
    wait_until(lambda: house.ended(local), meanwhile=scanning.scan_ready)
    for job in later:
        wait_until(lambda job=job: state(house, job) == "ended", meanwhile=scanning.scan_ready)  # type: ignore[misc]
    assert state(house, dead) == "running"
    house.check()
    scanning.ahead.stop()


def test_what_is_in_hand_is_bounded_for_one_account_and_for_all(house: House, servers: Servers) -> None:
    scanning = scanning_with(house, servers, StubScanner())
    for name in ("a", "b", "c", "d", "e", "f"):
        submit(house, name, *[f"http://dead.example/{name}/{n}" for n in range(400)], chunk_items=8)
        scanning.scan_ready()
    wait_until(lambda: len(servers.asked) == ahead.FETCHES // ahead.CHUNK_FETCHES)
    assert len([url for url in servers.asked if "/a/" in url]) == ahead.ACCOUNT_FETCHES // ahead.CHUNK_FETCHES
    scanning.ahead.stop()


def test_a_worker_that_stops_gives_back_what_it_fetches(house: House, servers: Servers) -> None:
    job = submit(house, "acme", *[f"http://dead.example/{n}" for n in range(8)], chunk_items=8)
    scanning = scanning_with(house, servers, StubScanner())
    scanning.scan_ready()
    scanning.ahead.stop()
    (chunk,) = house.chunks(job)
    assert (chunk.state, chunk.deaths, chunk.alone, chunk.ahead) == ("ready", 0, False, True)
    house.check()


def test_stores_that_are_away_blame_no_image_and_the_chunk_is_tried_again(house: House, servers: Servers) -> None:
    job = submit(house, "acme", "http://good.example/1")
    servers.away = True
    scanning = scanning_with(house, servers, StubScanner())

    def until_it_raises() -> bool:
        try:
            scanning.scan_ready()
        except StorageUnavailable:
            return True
        return False

    wait_until(until_it_raises)
    servers.away = False
    wait_until(lambda: state(house, job) == "ended", meanwhile=until_it_raises)
    (chunk,) = house.chunks(job)
    assert (chunk.state, chunk.deaths) == ("done", 0)


def test_images_that_together_are_too_large_for_memory_are_scanned_in_parts(
    house: House, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "PART_BYTES", 50)
    scanner = StubScanner()
    local = house.submit(*[b"face %d" % n + b"x" * 20 for n in range(4)])
    assert house.scanning(scanner).scan_ready()
    assert house.ended(local)
    remote = submit(house, "acme", *[f"http://good.example/{n}" for n in range(8)], chunk_items=8)
    scanning = scanning_with(house, servers, scanner)
    wait_until(lambda: state(house, remote) == "ended", meanwhile=scanning.scan_ready)
    assert [len(batch) for batch in scanner.batches] == [2] * 6
    house.check()


def abandon(house: House, *jobs: Job, begun: bool = True) -> None:
    """Let workers die that hold every chunk of these jobs, and scan them or only fetch them."""
    mine = Chunk.job_id.in_([job.id for job in jobs])
    with house.database.write() as session:
        chunks = list(session.scalars(select(Chunk.id).where(mine, Chunk.state == "ready")))
        held = [dispatch.lease(session, chunk_id, 60.0) for chunk_id in chunks]
        if begun:
            dispatch.begin(session, [one for one in held if one])
        session.execute(update(Chunk).where(mine).values(lease_until=now(session)))
    house.sweep()


def test_a_chunk_that_a_worker_died_on_is_scanned_alone(house: House, servers: Servers) -> None:
    job = submit(house, "acme", "http://good.example/1", "http://good.example/2")
    abandon(house, job)
    (chunk,) = house.chunks(job)
    assert (chunk.state, chunk.alone, chunk.ahead) == ("ready", True, True)
    house.submit(b"face 1")
    submit(house, "acme", "http://good.example/3")
    scanner = StubScanner()
    scanning = scanning_with(house, servers, scanner)
    wait_until(lambda: state(house, job) == "ended", meanwhile=scanning.scan_ready)
    assert [b"face http://good.example/1", b"face http://good.example/2"] in scanner.batches
    house.check()


def test_a_chunk_that_was_only_fetched_is_not_to_blame_for_a_workers_death(house: House, servers: Servers) -> None:
    job = submit(house, "acme", "http://good.example/1", "http://good.example/2")
    for _ in range(4):
        abandon(house, job, begun=False)
    (chunk,) = house.chunks(job)
    assert (chunk.state, chunk.deaths, chunk.alone) == ("ready", 0, False)
    scanning = scanning_with(house, servers, StubScanner())
    wait_until(lambda: state(house, job) == "ended", meanwhile=scanning.scan_ready)
    house.check()


def test_what_was_fetched_under_a_lease_that_is_lost_is_not_scanned(house: House, servers: Servers) -> None:
    job = submit(house, "acme", "http://good.example/1")
    scanner = StubScanner()
    scanning = scanning_with(house, servers, scanner)
    scanning.ahead.begin()
    wait_until(lambda: servers.asked)
    abandon(house, job, begun=False)
    with house.database.write() as session:
        held = dispatch.lease_ahead(session, 60.0)
    assert held is not None
    wait_until(lambda: scanning.ahead._parcels)
    scanning.scan_ready()
    assert scanner.batches == []
    assert state(house, job) == "running"
    scanning.ahead.stop()


def test_servers_that_never_answer_hold_up_nobody_after_a_worker_died_either(house: House, servers: Servers) -> None:
    dead = submit(house, "slow", *[f"http://dead.example/{n}" for n in range(40)])
    abandon(house, dead)
    scanning = scanning_with(house, servers, StubScanner())
    scanning.scan_ready()
    later = [submit(house, "beta", "http://good.example/1"), house.submit(b"face 1")]
    for job in later:
        wait_until(lambda job=job: state(house, job) == "ended", meanwhile=scanning.scan_ready)  # type: ignore[misc]
    assert len([url for url in servers.asked if "dead" in url]) == ahead.ACCOUNT_FETCHES // 4  # the first of each chunk
    house.check()
    scanning.ahead.stop()


def test_of_chunks_that_workers_died_on_one_is_scanned_at_a_time_and_both_queues_take_turns(
    house: House, servers: Servers
) -> None:
    remote = submit(house, "slow", *[f"http://good.example/{n}" for n in range(6)], chunk_items=1)
    local = house.submit(*[b"face %d" % n for n in range(3)], chunk_items=1)
    abandon(house, remote, local)
    scanner = StubScanner()
    scanning = scanning_with(house, servers, scanner)
    wait_until(lambda: state(house, remote) == state(house, local) == "ended", meanwhile=scanning.scan_ready)
    assert [len(batch) for batch in scanner.batches] == [1] * 9
    kinds = ["remote" if b"http" in batch[0] else "local" for batch in scanner.batches]
    assert kinds[:6].count("local") == 3
    house.check()


def test_few_chunks_that_workers_died_on_are_in_hand_and_the_others_wait_for_other_workers(
    house: House, servers: Servers
) -> None:
    suspects = submit(house, "slow", *[f"http://dead.example/{n}" for n in range(12)], chunk_items=1)
    abandon(house, suspects)
    other = submit(house, "beta", "http://dead.example/in-company")
    scanning = scanning_with(house, servers, StubScanner())
    scanning.ahead.begin()
    wait_until(lambda: len(servers.asked) == ahead.ALONE + 1)
    assert "http://dead.example/in-company" in servers.asked
    assert [chunk.state for chunk in house.chunks(suspects)].count("ready") == 12 - ahead.ALONE
    servers.hold.set()
    for job in (suspects, other):
        wait_until(lambda job=job: state(house, job) == "ended", meanwhile=scanning.scan_ready)  # type: ignore[misc]
    house.check()


def test_what_storage_that_is_away_gives_back_is_not_asked_for_again_and_again(house: House, servers: Servers) -> None:
    jobs_ = [submit(house, name, "http://good.example/1") for name in ("a", "b", "c")]
    servers.away = True
    scanning = scanning_with(house, servers, StubScanner())
    loop = ScanLoop(scanning, house.explaining(StubScanner()), poll_seconds=3600.0)
    loop.start()
    wait_until(lambda: servers.asked)
    for _ in range(20):
        scanning.ahead.wake()
        time.sleep(0.02)
    loop.stop()
    loop.join()
    assert len(servers.asked) <= 2 * len(jobs_)  # of the turn that found it away, and of the one before
    with house.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Outbox)) == len(jobs_)
    assert [chunk.deaths for job in jobs_ for chunk in house.chunks(job)] == [0, 0, 0]
    house.check()


def test_a_worker_that_stops_waits_for_no_further_image(house: House) -> None:
    job = house.submit(*[b"face %d" % n for n in range(4)])

    class Stops:
        """A source that is told to stop while it gives the second image."""

        def fetch_all(self, items: Sequence[LeasedItem], at_once: int) -> Iterator[Fetched]:
            yield items[0], b"face 0"
            scanning.stopping = True
            yield items[1], b"face 1"
            raise AssertionError("asked for more")

    scanning = Scanning(
        house.database, house.blobs, StubScanner(), register(house.database, CARD), house.config, Stops()
    )
    scanning.scan_ready()
    (chunk,) = house.chunks(job)
    assert (chunk.state, chunk.deaths) == ("ready", 0)
    house.check()


def test_the_loop_is_woken_by_what_was_fetched(house: House, servers: Servers) -> None:
    job = submit(house, "acme", "http://dead.example/1")
    scanning = scanning_with(house, servers, StubScanner())
    loop = ScanLoop(scanning, house.explaining(StubScanner()), poll_seconds=3600.0)
    loop.start()
    wait_until(lambda: servers.asked)
    servers.hold.set()
    wait_until(lambda: state(house, job) == "ended")
    loop.stop()
    loop.join()
