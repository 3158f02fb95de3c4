"""What is probably next is read while a batch is scanned; a guess that was wrong, or failed, changes nothing."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from shield import dispatch
from shield.dispatch import Lease, LeasedItem
from shield.errors import StorageUnavailable
from tests.worker.conftest import House, wait_until
from tests.worker.stub import CARD, StubScanner
from worker import ahead
from worker.app import register
from worker.foresight import Foresight
from worker.scan import Scanning
from worker.sources import Fetched, Sources


class Counting:
    """The real sources, which note what they give and to which thread; `away` for whoever reads ahead."""

    def __init__(self, house: House) -> None:
        self._sources = Sources(house.database, house.blobs, house.config)
        self.asked: list[tuple[str, bool]] = []  # item, and whether it was read ahead
        self.away = False

    def fetch_all(self, items: Sequence[LeasedItem], at_once: int) -> Iterator[Fetched]:
        foreseen = threading.current_thread().name.startswith("foresight")
        for item, answer in self._sources.fetch_all(items, at_once):
            if self.away and foreseen:
                raise StorageUnavailable("the blob store is away")
            self.asked.append((item.id, foreseen))
            yield item, answer


def scanning_with(house: House, sources: Counting, scanner: StubScanner) -> Scanning:
    config = house.config.model_copy(update={"batch_images": 4})
    return Scanning(house.database, house.blobs, scanner, register(house.database, CARD), config, sources)


def scan_all(scanning: Scanning) -> None:
    while scanning.scan_ready():
        pass


def test_the_next_batch_is_read_while_one_is_scanned_and_no_image_is_read_twice(house: House) -> None:
    job = house.submit(*[b"face %d" % n for n in range(12)], chunk_items=2)
    sources = Counting(house)

    def wait() -> None:
        """Each batch is scanned only when the next one is read."""
        wait_until(lambda: sum(foreseen for _, foreseen in sources.asked) == min(4 * len(scanner.batches), 8))

    scanner = StubScanner(before=wait)
    scan_all(scanning_with(house, sources, scanner))
    ids = [item.id for item in house.items(job)]
    assert sorted(sources.asked) == sorted([*((i, False) for i in ids[:4]), *((i, True) for i in ids[4:])])
    assert [len(batch) for batch in scanner.batches] == [4, 4, 4]
    assert scanner.batches[2] == [b"face %d" % n for n in range(8, 12)]
    house.check()


def test_what_another_worker_took_meanwhile_is_left_to_it(house: House) -> None:
    job = house.submit(*[b"face %d" % n for n in range(12)], chunk_items=4)
    sources, taken = Counting(house), list[Lease | None]()

    def take() -> None:
        if not taken:
            wait_until(lambda: len(sources.asked) == 8)
            with house.database.write() as session:
                taken.append(dispatch.lease_next(session, 60.0))

    scanner = StubScanner(before=take)
    scan_all(scanning_with(house, sources, scanner))
    assert house.outcomes(job) == ["fake"] * 4 + ["leased"] * 4 + ["fake"] * 4
    assert [len(batch) for batch in scanner.batches] == [4, 4]


def test_what_is_read_ahead_is_bounded_in_bytes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job = house.submit(*[b"face %d" % n for n in range(8)], chunk_items=4)
    monkeypatch.setattr(ahead, "PART_BYTES", 12)  # two images
    sources = Counting(house)
    scan_all(scanning_with(house, sources, StubScanner()))
    ids = [item.id for item in house.items(job)]
    assert sum(foreseen for _, foreseen in sources.asked) == 2
    assert sorted(item for item, _ in sources.asked) == sorted(ids)
    assert house.outcomes(job) == ["fake"] * 8


def test_storage_that_is_away_while_one_reads_ahead_is_nobodys_trouble(house: House) -> None:
    job = house.submit(*[b"face %d" % n for n in range(8)], chunk_items=4)
    sources = Counting(house)
    sources.away = True
    scan_all(scanning_with(house, sources, StubScanner()))
    assert house.outcomes(job) == ["fake"] * 8
    assert {foreseen for _, foreseen in sources.asked} == {False}


def test_what_is_to_be_scanned_alone_is_not_foreseen_and_what_is_not_is_by_turn(house: House) -> None:
    house.submit(*[b"face %d" % n for n in range(6)], chunk_items=2)
    with house.database.read() as session:
        items = dispatch.foreseen(session, "bulk", 3)
    with house.database.write() as session:
        first = dispatch.lease_next(session, 60.0)
    assert first is not None
    assert items[:2] == list(first.items)
    assert len(items) == 4
    sources = Counting(house)
    foresight = Foresight(house.database, sources, 2)
    foresight.begin(4)
    foresight.begin(4)
    assert [content for _, content in foresight.fetch_all(items[2:], 4)] == [b"face 2", b"face 3"]
    assert [foreseen for _, foreseen in sources.asked] == [True, True]
