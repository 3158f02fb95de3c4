"""Scanning in this process: batches, bad images, sources, leases."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from pipeline.images import DecodeLimits
from pipeline.scan import Scanner, ScannerSettings
from shield import dispatch
from shield.db import Database
from shield.dispatch import Lease
from shield.errors import StorageUnavailable
from shield.models import Chunk
from shield.outcomes import Outcome
from tests.worker.conftest import House, wait_until
from tests.worker.stub import StubScanner
from worker.app import register

SAMPLES = Path(__file__).parents[2] / "samples"


def test_a_batch_is_filled_from_several_jobs_and_each_item_has_its_own_result(house: House) -> None:
    first, second = house.submit(b"face 1", b"none 2"), house.submit(b"broken", b"face 3")
    scanner = StubScanner()
    assert house.scanning(scanner).scan_ready()
    assert scanner.batches == [[b"face 1", b"none 2", b"broken", b"face 3"]]
    assert house.outcomes(first) == ["fake", "no_face"]
    assert house.outcomes(second) == ["truncated", "fake"]
    house.check()


def test_a_batch_ends_where_it_is_full(house: House) -> None:
    house.submit(*[b"face %d" % n for n in range(12)])
    scanner = StubScanner()
    scanning = house.scanning(scanner, batch_images=8)
    assert [scanning.scan_ready(), scanning.scan_ready(), scanning.scan_ready()] == [True, True, False]
    assert [len(batch) for batch in scanner.batches] == [8, 4]


def test_a_chunk_that_is_to_be_alone_is_neither_given_company_nor_taken_as_company(house: House) -> None:
    _, lone, _ = (house.submit(b"face %d" % n) for n in (1, 2, 3))
    with house.database.write() as session:
        session.execute(update(Chunk).where(Chunk.job_id == lone.id).values(alone=True))
    scanner = StubScanner()
    scanning = house.scanning(scanner)
    assert scanning.scan_ready()
    house.submit(b"face 4")
    assert scanning.scan_ready()
    assert scanner.batches == [[b"face 1", b"face 3"], [b"face 2"]]


def test_a_message_for_a_chunk_that_is_done_changes_no_row(house: House) -> None:
    house.submit(b"face 1", b"broken")
    scanner = StubScanner()
    scanning = house.scanning(scanner)
    assert scanning.scan_ready()
    before = rows(house)
    assert not scanning.scan_ready()
    assert rows(house) == before
    assert len(scanner.batches) == 1


def rows(house: House) -> list[object]:
    with house.database.engine.connect() as connection:
        return [
            connection.exec_driver_sql(f"select * from {table} order by 1, 2").all()  # noqa: S608 - three known names
            for table in ("item", "chunk", "face")
        ]


def test_what_is_recorded_is_what_was_measured(house: House) -> None:
    job = house.submit(b"face 1")
    house.scanning(StubScanner()).scan_ready()
    (item,) = house.items(job)
    assert (item.score, item.policy_version, item.image_width, item.image_height) == (0.9, "default/stub-1", 100, 80)
    assert item.view_blob is not None
    assert house.blobs.get(item.view_blob) == b"view of face 1"
    (face,) = item.faces
    assert (face.left, face.width, face.detection_score, len(face.landmarks)) == (10.0, 50.0, 0.99, 6)


def test_the_image_that_the_scanner_fails_on_fails_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    job = house.submit(b"face 1", b"raise 2", b"none 3")
    house.scanning(StubScanner()).scan_ready()
    assert house.outcomes(job) == ["fake", "scan_failed", "no_face"]
    assert "a fault of the scanner" in caplog.text


def test_a_stored_object_that_cannot_be_read_fails_its_item_alone(house: House) -> None:
    job = house.submit(b"face 1", b"face 2")
    unreadable = house.items(job)[0].source_blob
    assert unreadable is not None
    path = house.blobs.path(unreadable)
    path.unlink()
    path.mkdir()  # reading it is an OSError of a kind that nobody foresaw
    house.scanning(StubScanner()).scan_ready()
    assert house.outcomes(job) == ["fetch_failed", "fake"]


def test_a_stored_object_that_is_gone_fails_its_item_alone(house: House) -> None:
    job = house.submit(b"face 1", b"face 2")
    gone = house.items(job)[0].source_blob
    assert gone is not None
    house.blobs.path(gone).unlink()
    house.scanning(StubScanner()).scan_ready()
    assert house.outcomes(job) == ["blob_missing", "fake"]


def test_bad_images_get_their_codes_and_good_ones_are_scanned_by_the_real_networks(house: House) -> None:
    photo = (SAMPLES / "originals" / "hopper.jpg").read_bytes()
    large = (SAMPLES / "group.jpg").read_bytes()
    landscape = (SAMPLES / "landscape.jpg").read_bytes()
    images = (b"", b"root:x:0:0:", photo[: len(photo) // 2], photo, b"<svg xmlns='http://www.w3.org/2000/svg'/>", large)
    job = house.submit(*images, landscape, chunk_items=8)
    limits = DecodeLimits(max_pixels=310_000)
    with Scanner(ScannerSettings(view_side=64, limits=limits)) as scanner:
        register(house.database, scanner.card)
        assert house.scanning(scanner).scan_ready()
    outcomes = house.outcomes(job)
    assert outcomes[:3] == ["empty", "not_an_image", "truncated"]
    assert outcomes[4:] == ["unsupported_format", "too_many_pixels", "no_face"]
    hopper = house.items(job)[3]
    assert (hopper.state, len(hopper.faces)) == ("done", 1)
    assert hopper.view_blob is not None
    assert house.blobs.get(hopper.view_blob).startswith(b"\xff\xd8\xff")
    house.check()


class Site(BaseHTTPRequestHandler):
    """/image, /page, /large, /slow, /away (redirects to a private address), /there (redirects to /image)."""

    hold = threading.Event()

    def do_GET(self) -> None:
        bodies = {"/image": b"face 1", "/page": b"none <html>", "/large": b"x" * 20_000}
        redirects = {"/away": "http://10.0.0.1/image", "/there": "/image"}
        if self.path == "/slow":
            self.hold.wait(30)
        if self.path in redirects:
            self.send_response(302)
            self.send_header("Location", redirects[self.path])
        else:
            self.send_response(200 if self.path in bodies else 404)
        body = bodies.get(self.path, b"")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    Site.hold.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Site.hold.set()
    server.shutdown()
    server.server_close()


def test_images_are_fetched_from_urls_and_each_failure_says_why(house: House, site: str) -> None:
    paths = ("/image", "/missing", "/slow", "/large", "/away", "/there", "/page")
    job = house.submit(*[site + path for path in paths], "http://127.0.0.1:1/closed", chunk_items=8)
    scanning = house.scanning(StubScanner())
    wait_until(lambda: house.ended(job), meanwhile=scanning.scan_ready)
    failed = "fetch_failed"
    assert house.outcomes(job) == ["fake", failed, failed, "too_large", failed, "fake", "no_face", failed]
    details = [item.error_detail for item in house.items(job)]
    assert details[1:5] == [
        "answered 404",
        "timed out after 1 s",
        "larger than the limit of 10000 bytes",
        "address 10.0.0.1 is not public",
    ]
    assert "Connection refused" in (details[7] or "")


def test_a_worker_that_is_stopping_gives_back_what_it_has_not_scanned_and_nobody_is_blamed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = house.submit(b"face 1")
    scanner = StubScanner()
    scanning = house.scanning(scanner)
    monkeypatch.setattr(scanning, "stopping", True)
    assert scanning.scan_ready()
    assert scanner.batches == []
    (chunk,) = house.chunks(job)
    assert (chunk.state, chunk.deaths, chunk.alone) == ("ready", 0, False)
    assert house.outcomes(job) == ["pending"]


def test_a_lease_is_renewed_while_its_images_are_scanned(house: House) -> None:
    job = house.submit(b"slow 1", b"slow 2", b"slow 3", b"slow 4")  # four fifths of a second
    swept: list[int] = []
    scanning = house.scanning(StubScanner(before=lambda: time.sleep(1.0)), lease_seconds=0.5)
    threading.Timer(0.9, lambda: swept.append(house.sweep())).start()
    assert scanning.scan_ready()
    assert swept == [0]
    assert house.outcomes(job) == ["fake"] * 4


def test_a_worker_whose_lease_was_lost_writes_nothing(house: House) -> None:
    job = house.submit(b"face 1")

    def lose() -> None:
        with house.database.write() as session:
            session.execute(update(Chunk).values(lease_token="another's"))

    assert house.scanning(StubScanner(before=lose)).scan_ready()
    assert house.outcomes(job) == ["leased"]
    assert house.job(job).done == 0


def test_storage_that_is_away_while_results_are_recorded_is_waited_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = house.submit(b"face 1")
    record, refusals = dispatch.record, iter([True, True])

    def refuse_twice(session: Session, held: Lease, outcomes: list[Outcome]) -> int:
        if next(refusals, False):
            raise StorageUnavailable("the disk is full")
        return record(session, held, outcomes)

    monkeypatch.setattr(dispatch, "record", refuse_twice)
    assert house.scanning(StubScanner()).scan_ready()
    assert house.outcomes(job) == ["fake"]
    assert house.ended(job)


def test_storage_that_stays_away_leaves_the_chunk_to_the_sweep(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job = house.submit(b"face 1")

    def refuse(*_: object) -> int:
        raise StorageUnavailable("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(dispatch, "record", refuse)
        broken.setattr(dispatch, "renew", refuse)
        assert house.scanning(StubScanner(), lease_seconds=0.5).scan_ready()
    assert house.sweep() == 1
    assert house.scanning(StubScanner()).scan_ready()
    assert house.outcomes(job) == ["fake"]


def test_no_transaction_is_open_while_the_networks_run(house: House) -> None:
    house.submit(b"face 1")
    other = Database(house.config.database)

    def write() -> None:
        with other.write() as session:
            session.execute(update(Chunk).values(deaths=0))

    assert house.scanning(StubScanner(before=write)).scan_ready()
    other.close()
