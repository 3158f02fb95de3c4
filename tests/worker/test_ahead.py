"""Fetching ahead: servers that do not answer hold up their own chunk alone."""

import threading
from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import update

from shield import accounts, jobs
from shield.db import now
from shield.dispatch import LeasedItem
from shield.errors import StorageUnavailable
from shield.jobs import NewItem
from shield.models import Chunk, Job
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
            yield item, b"face " + url.encode()


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


def test_a_chunk_that_a_worker_died_on_is_not_fetched_ahead_but_scanned_alone(house: House, servers: Servers) -> None:
    job = submit(house, "acme", "http://good.example/1", "http://good.example/2")
    first = scanning_with(house, servers, StubScanner())
    first.ahead.begin()
    with house.database.write() as session:
        session.execute(update(Chunk).values(lease_until=now(session)))
    assert house.sweep() == 1
    (chunk,) = house.chunks(job)
    assert (chunk.state, chunk.alone, chunk.ahead) == ("ready", True, False)
    house.submit(b"face 1")
    scanner = StubScanner()
    scanning = scanning_with(house, servers, scanner)
    wait_until(lambda: state(house, job) == "ended", meanwhile=scanning.scan_ready)
    assert [b"face http://good.example/1", b"face http://good.example/2"] in scanner.batches
    first.ahead.stop()


def test_the_loop_is_woken_by_what_was_fetched(house: House, servers: Servers) -> None:
    job = submit(house, "acme", "http://dead.example/1")
    scanning = scanning_with(house, servers, StubScanner())
    loop = ScanLoop(scanning, poll_seconds=3600.0)
    loop.start()
    wait_until(lambda: servers.asked)
    servers.hold.set()
    wait_until(lambda: state(house, job) == "ended")
    loop.stop()
    loop.join()
