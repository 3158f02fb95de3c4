"""Explaining between batches: from the original or the view, by a message or without one, and whoever dies of it."""

import io
import threading
from datetime import UTC, datetime, timedelta

import pytest

from shield import explanations, uploads
from shield.explanations import EXPLAIN
from shield.jobs import NewItem, submit
from shield.models import Explanation, Item
from shield.queue import CeleryQueue, Message
from shield.states import ExplanationState, Picture
from tests.worker.conftest import PATIENCE, House, RedisServer, Workers, wait_until
from tests.worker.stub import CARD, FACE, StubScanner
from worker.loop import ScanLoop


def scanned(house: House, *images: bytes) -> list[Item]:
    """The items of a job of these images, scanned."""
    job = house.submit(*images)
    scanning = house.scanning(StubScanner())
    while scanning.scan_ready():
        pass
    return house.items(job)


def ask(house: House, item: Item) -> None:
    with house.database.write() as session:
        explanations.ask(session, house.account_id, item.id)


def of(house: House, item: Item) -> Explanation:
    with house.database.read() as session:
        found = explanations.of(session, house.account_id, item.id)
    assert found is not None
    return found


def lose(house: House, *blobs: str | None) -> None:
    """Remove blobs that rows name."""
    for blob in blobs:
        assert blob is not None
        assert house.blobs.remove_old(blob, datetime.now(UTC) + timedelta(hours=1))


def test_the_original_is_explained_and_its_pictures_are_stored(house: House) -> None:
    (item,) = scanned(house, b"face 1")
    scanner = StubScanner()
    explaining = house.explaining(scanner)
    assert not explaining.turn()
    ask(house, item)
    assert explaining.turn()
    assert not explaining.turn()
    assert scanner.explained == [(b"face 1", 100)]
    found = of(house, item)
    assert (found.state, found.picture, found.weights_sha256) == ("ready", Picture.ORIGINAL, CARD.weights_sha256)
    (face,) = found.faces
    assert (face.ordinal, face.left, face.side, face.score) == (0, FACE.box.left, FACE.box.height, 0.9)
    assert dict(face.stability) == {"jpeg_90": 0.9, "half_size": 0.7}
    assert house.blobs.get(face.crop_blob) == b"crop of face 1"
    assert house.blobs.get(face.heatmap_blob) == b"map of face 1"


def test_an_upload_is_explained_while_it_holds_what_was_scanned_else_the_view(house: House) -> None:
    with house.database.write() as session:
        first, second = uploads.create(session, house.account_id, 2, hours=1.0)
        for upload in (first, second):
            house.blobs.put_upload(upload.id, io.BytesIO(b"face up"), 100)
        job = submit(session, house.account_id, [NewItem(upload=one.id) for one in (first, second)], 4)
    scanning = house.scanning(StubScanner())
    while scanning.scan_ready():
        pass
    house.blobs.put_upload(second.id, io.BytesIO(b"face another"), 100)
    scanner = StubScanner()
    for item in house.items(job):
        ask(house, item)
        assert house.explaining(scanner).turn()
    assert [image for image, _ in scanner.explained] == [b"face up", b"view of face up"]
    assert [of(house, item).picture for item in house.items(job)] == [Picture.ORIGINAL, Picture.VIEW]


def test_without_the_original_the_view_is_explained_and_without_both_it_fails(house: House) -> None:
    (item,) = scanned(house, b"face gone")
    lose(house, item.source_blob)
    scanner = StubScanner()
    ask(house, item)
    assert house.explaining(scanner).turn()
    assert (of(house, item).picture, scanner.explained) == (Picture.VIEW, [(b"view of face gone", 100)])

    (other,) = scanned(house, b"face lost")
    lose(house, other.source_blob, other.view_blob)
    ask(house, other)
    assert house.explaining(scanner).turn()
    assert (of(house, other).state, of(house, other).reason) == (ExplanationState.FAILED, "image_gone")


class Faulty(StubScanner):
    """Explains as if each image were this one."""

    def __init__(self, word: bytes) -> None:
        super().__init__()
        self.word = word

    def explain(self, image: bytes, boxes: object, width: int) -> object:  # type: ignore[override]
        return super().explain(self.word, boxes, width)  # type: ignore[arg-type]


@pytest.mark.parametrize(("word", "reason"), [(b"broken", "truncated"), (b"raise", "explain_failed")])
def test_what_cannot_be_explained_fails_with_a_reason_and_is_not_tried_again(
    house: House, word: bytes, reason: str
) -> None:
    (item,) = scanned(house, b"face 1")
    ask(house, item)
    explaining = house.explaining(Faulty(word))  # type: ignore[arg-type]
    assert explaining.turn()
    assert (of(house, item).state, of(house, item).reason) == (ExplanationState.FAILED, reason)
    assert not explaining.turn()


def test_bulk_and_explanations_take_turns(house: House) -> None:
    """However much of either waits, the other goes on."""
    items = scanned(house, *(b"face %d" % n for n in range(6)))
    for item in items:
        ask(house, item)
    job = house.submit(*(b"face bulk %d" % n for n in range(24)), chunk_items=4)
    scanner = StubScanner()
    order: list[str] = []
    done = threading.Event()

    def note() -> None:
        order.append("explained" if len(scanner.explained) > order.count("explained") else "scanned")
        if len(order) == 12:
            done.set()

    scanner._before = note
    scanning = house.scanning(scanner, batch_images=4)
    loop = ScanLoop(scanning, house.explaining(scanner), poll_seconds=3600.0)
    loop.start()
    assert done.wait(30)
    loop.stop()
    loop.join()
    assert order[:12] == ["explained", "scanned"] * 6
    assert house.ended(job)
    assert {of(house, item).state for item in items} == {ExplanationState.READY}
    house.check()


@pytest.mark.slow
def test_a_message_has_a_worker_look_at_once_and_without_one_it_looks_by_itself(
    house: House, server: RedisServer, workers: Workers
) -> None:
    server.start()
    first, second = scanned(house, b"face 1", b"face 2")
    job = house.submit(b"face before")
    workers.start(SHIELD_LEASE_POLL_SECONDS="3600")
    wait_until(lambda: house.ended(job))  # it has looked, and would not look again by itself
    ask(house, first)
    assert CeleryQueue(server.url).publish([Message(EXPLAIN, "interactive", first.id)]) == 1
    wait_until(lambda: of(house, first).state == "ready")
    workers.end()
    ask(house, second)
    workers.start()  # polls SQL; no message
    wait_until(lambda: of(house, second).state == "ready")


@pytest.mark.slow
def test_an_explanation_that_kills_three_workers_fails_and_scanning_goes_on(
    house: House, server: RedisServer, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    (item,) = scanned(house, b"face 1")
    assert item.source_blob is not None
    # The original is swapped for one that kills; its digest is set so that it is taken for what was scanned.
    killer = house.blobs.put(io.BytesIO(b"kill me"), 100)
    with house.database.write() as session:
        row = session.get_one(Item, item.id)
        row.source_blob, row.image_sha256 = killer, killer
    ask(house, item)
    for death in range(1, explanations.DEATHS + 1):
        worker = workers.start()
        worker.wait(PATIENCE)
        assert of(house, item).tries == death
        with house.database.write() as session:
            session.get_one(Explanation, item.id).held_until = None
    workers.start()
    wait_until(lambda: of(house, item).state == "failed")
    assert of(house, item).reason == "poison"
    job = house.submit(b"face after")
    wait_until(lambda: house.ended(job))
