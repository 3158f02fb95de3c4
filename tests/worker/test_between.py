"""What goes between two groups of a bulk batch: what somebody waits for, and nothing that could be blamed for it."""

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from sqlalchemy import update

from pipeline.results import Scan
from shield import dispatch, explanations
from shield.errors import StorageUnavailable
from shield.jobs import NewItem, submit
from shield.models import Chunk, Job
from shield.states import ExplanationState
from tests.worker.conftest import House, RedisServer, Workers, wait_until
from tests.worker.stub import CARD, StubScanner
from tests.worker.test_ahead import Servers
from worker import scan
from worker.app import register
from worker.loop import ScanLoop
from worker.scan import Scanning


class Stepped(StubScanner):
    """Scans one image at a time; `meanwhile[n]` is called before the n-th image of the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: dict[int, Callable[[], object]] = {}

    def _scans(self, images: Sequence[bytes]) -> Iterator[Scan]:
        first = len(self.batches) == 1
        for number, content in enumerate(images):
            if first and number in self.meanwhile:
                self.meanwhile[number]()
            yield self._scan(content)


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "LOOK_SECONDS", 0.0)


def bulk(house: House) -> Job:
    """Six images in three chunks: the bulk lane."""
    return house.submit(*[b"face %d" % n for n in range(6)], chunk_items=2)


class Urgent:
    """A job that somebody waits for, submitted in mid-batch, and what it had come to at a later step of that batch."""

    def __init__(self, house: House, *images: bytes) -> None:
        self._house = house
        self._images = images
        self.then: list[str | None] = []

    def submit(self) -> None:
        self.job = self._house.submit(*self._images)

    def look(self) -> None:
        self.then = self._house.outcomes(self.job)


def set_alone(house: House, job: Job) -> None:
    with house.database.write() as session:
        session.execute(update(Chunk).where(Chunk.job_id == job.id).values(alone=True))


def test_an_image_that_somebody_waits_for_is_scanned_and_recorded_between_two_groups(house: House) -> None:
    job, urgent, scanner = bulk(house), Urgent(house, b"none urgent"), Stepped()
    scanner.meanwhile = {1: urgent.submit, 2: urgent.look}
    assert house.scanning(scanner).scan_ready()
    assert urgent.then == ["no_face"]
    assert scanner.batches == [[b"face %d" % n for n in range(6)], [b"none urgent"]]
    assert house.outcomes(job) == ["fake"] * 6
    house.check()


def test_an_image_of_another_server_is_fetched_and_scanned_between_two_groups(house: House) -> None:
    bulk(house)
    servers, scanner = Servers(), Stepped()
    scanning = Scanning(house.database, house.blobs, scanner, register(house.database, CARD), house.config, servers)
    jobs: list[Job] = []
    then: list[bool] = []

    def ask() -> None:
        with house.database.write() as session:
            jobs.append(submit(session, house.account_id, [NewItem(url="http://good.example/1")], 4))

    scanner.meanwhile = {
        1: ask,
        2: lambda: wait_until(lambda: scanning.ahead._parcels or house.ended(jobs[0])),
        3: lambda: then.append(house.ended(jobs[0])),
    }
    assert scanning.scan_ready()
    assert then == [True]
    house.check()


def test_nothing_goes_between_what_is_scanned_alone(house: House) -> None:
    job = house.submit(*[b"face %d" % n for n in range(6)], chunk_items=3)
    set_alone(house, job)
    urgent, scanner = Urgent(house, b"none urgent"), Stepped()
    scanner.meanwhile = {1: urgent.submit, 2: urgent.look}
    scanning = house.scanning(scanner)
    wait_until(lambda: house.ended(job), meanwhile=scanning.scan_ready)
    assert urgent.then == ["pending"]
    assert [len(batch) for batch in scanner.batches] == [3, 1, 3]


def test_what_is_to_be_scanned_alone_does_not_go_between(house: House) -> None:
    job, urgent, scanner = bulk(house), Urgent(house, b"none urgent"), Stepped()

    def submit_alone() -> None:
        urgent.submit()
        set_alone(house, urgent.job)

    scanner.meanwhile = {1: submit_alone, 5: urgent.look}
    scanning = house.scanning(scanner)
    assert scanning.scan_ready()
    assert urgent.then == ["pending"]
    assert house.ended(job)
    assert scanning.scan_ready()
    assert house.outcomes(urgent.job) == ["no_face"]


def test_what_cannot_be_scanned_in_between_fails_alone(house: House) -> None:
    job, urgent, scanner = bulk(house), Urgent(house, b"raise urgent", b"broken"), Stepped()
    scanner.meanwhile = {1: urgent.submit, 2: urgent.look}
    house.scanning(scanner).scan_ready()
    assert urgent.then == ["scan_failed", "truncated"]
    assert house.outcomes(job) == ["fake"] * 6
    house.check()


@pytest.mark.parametrize("error", [StorageUnavailable("the disk is full"), ValueError("a fault of ours")])
def test_trouble_in_between_is_not_the_batchs_trouble(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    job, urgent, scanner = bulk(house), Urgent(house, b"none urgent"), Stepped()
    lease_next = dispatch.lease_next
    refused: list[bool] = []

    def refuse(*args: object) -> object:
        if scanner.batches and not house.ended(job):
            refused.append(True)
            raise error
        return lease_next(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(dispatch, "lease_next", refuse)
    scanner.meanwhile = {1: urgent.submit}
    scanning = house.scanning(scanner)
    assert scanning.scan_ready()
    assert house.outcomes(job) == ["fake"] * 6
    # After storage that is away comes a pause; after a fault of ours, whoever is next has another try.
    assert len(refused) == (1 if isinstance(error, StorageUnavailable) else 4)
    assert scanning.scan_ready()
    assert house.outcomes(urgent.job) == ["no_face"]
    house.check()


def test_an_explanation_is_made_between_two_groups(house: House) -> None:
    first = house.submit(b"face explained")
    house.scanning(StubScanner()).scan_ready()
    (item,) = house.items(first)
    job, scanner = bulk(house), Stepped()
    then: list[str] = []

    def ask() -> None:
        with house.database.write() as session:
            explanations.ask(session, house.account_id, item.id)

    def look() -> None:
        with house.database.read() as session:
            found = explanations.of(session, house.account_id, item.id)
        then.append(found.state if found else "")

    scanner.meanwhile = {1: ask, 3: look}
    loop = ScanLoop(house.scanning(scanner), house.explaining(scanner), poll_seconds=3600.0)
    loop.start()
    wait_until(lambda: house.ended(job))
    loop.stop()
    loop.join()
    assert then == [ExplanationState.READY]


def test_a_worker_that_is_told_to_stop_records_what_is_scanned_and_gives_the_rest_back(house: House) -> None:
    job, scanner = bulk(house), Stepped()
    scanning = house.scanning(scanner)
    scanner.meanwhile = {2: lambda: setattr(scanning, "stopping", True)}
    assert scanning.scan_ready()
    assert house.outcomes(job) == ["fake"] * 3 + ["pending"] * 3
    assert [(chunk.state, chunk.deaths) for chunk in house.chunks(job)] == [("done", 0), ("ready", 0), ("ready", 0)]
    house.check()


def test_what_was_fetched_ahead_is_given_back_by_a_worker_that_is_told_to_stop(house: House) -> None:
    with house.database.write() as session:
        urls = [NewItem(url=f"http://good.example/{n}") for n in range(6)]
        job = submit(session, house.account_id, urls, 6)
    servers, scanner = Servers(), Stepped()
    scanning = Scanning(house.database, house.blobs, scanner, register(house.database, CARD), house.config, servers)
    scanner.meanwhile = {2: lambda: setattr(scanning, "stopping", True)}
    wait_until(lambda: scanner.batches, meanwhile=scanning.scan_ready)
    assert house.outcomes(job) == ["fake"] * 3 + ["pending"] * 3
    (chunk,) = house.chunks(job)
    assert (chunk.state, chunk.deaths) == ("ready", 0)
    house.check()


def test_a_chunk_is_recorded_while_the_next_one_is_scanned(house: House) -> None:
    job, scanner = bulk(house), Stepped()
    scanner.meanwhile = {5: lambda: wait_until(lambda: house.job(job).done == 4)}
    assert house.scanning(scanner).scan_ready()
    assert house.outcomes(job) == ["fake"] * 6


def test_a_batch_is_of_one_lane_and_the_interactive_one_comes_first(house: House) -> None:
    bulk(house)
    house.submit(b"none urgent")
    scanner = StubScanner()
    scanning = house.scanning(scanner)
    assert [scanning.scan_ready(), scanning.scan_ready(), scanning.scan_ready()] == [True, True, False]
    assert scanner.batches == [[b"none urgent"], [b"face %d" % n for n in range(6)]]


def test_jobs_that_come_within_a_moment_share_a_batch(house: House) -> None:
    first, second = house.submit(b"face 1"), Urgent(house, b"face 2")
    scanner = StubScanner()
    later = threading.Timer(0.1, second.submit)
    later.start()
    assert house.scanning(scanner, company_seconds=1.0).scan_ready()
    later.join()
    assert scanner.batches == [[b"face 1", b"face 2"]]
    assert house.outcomes(first) == house.outcomes(second.job) == ["fake"]


def test_given_an_image_in_between_that_kills_workers_then_it_is_poison_and_the_batch_is_scanned(
    house: House, server: RedisServer, workers: Workers
) -> None:
    job = house.submit(*[b"slow %d" % n for n in range(12)])
    process = workers.start()
    wait_until(lambda: any(chunk.state == "leased" for chunk in house.chunks(job)))
    urgent = house.submit(b"kill urgent", b"face urgent")
    deaths = 0

    def start_again() -> None:
        nonlocal process, deaths
        house.sweep()
        if process.poll() is not None:
            deaths += 1
            process = workers.start()

    wait_until(lambda: house.ended(job) and house.ended(urgent), meanwhile=start_again)
    house.check()
    assert house.outcomes(urgent) == ["poison", "fake"]
    assert house.outcomes(job) == ["fake"] * 12
    assert deaths == 5  # two until the chunk is split, three on the single
    assert max(chunk.deaths for chunk in house.chunks(job)) <= 1
