"""Items that lie in S3, and items that were uploaded: fetched by a worker from a real S3 server."""

import io
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from shield import accounts, buckets, jobs, supervisor, uploads
from shield.blobs import Blobs, open_blobs
from shield.buckets import parse_s3_prefix
from shield.db import Database
from shield.dispatch import LeasedItem
from shield.errors import StorageUnavailable
from shield.jobs import NewItem
from shield.outcomes import Failed
from shield.settings import Settings
from tests.s3 import SECRET, S3Server, moto, nanio
from tests.worker.conftest import House
from tests.worker.stub import StubScanner
from worker.sources import Sources

LIMIT = 1024


class Place:
    """One installation whose blobs and whose customers' images lie on one server."""

    def __init__(self, home: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        bucket = server.new_bucket() if server is moto() else "shield"
        self.config: Settings = server.settings(monkeypatch, home, blobs=f"s3://{bucket}/shield", max_image_bytes=LIMIT)
        supervisor.migrate(self.config.database)
        self.database = Database(self.config.database)
        self.blobs: Blobs = open_blobs(self.config)
        self.sources = Sources(self.database, self.blobs, self.config)
        with self.database.write() as session:
            self.account_id = accounts.create_account(session, "acme").id
            self.other_id = accounts.create_account(session, "other").id

    def grant(self, url: str) -> None:
        with self.database.write() as session:
            buckets.grant(session, self.account_id, parse_s3_prefix(url))

    def fetch(self, *urls: str, account_id: str = "") -> list[bytes | Failed]:
        owner = account_id or self.account_id
        items = [LeasedItem(f"itm_{n}", owner, None, url, None) for n, url in enumerate(urls)]
        answers = {item.id: answer for item, answer in self.sources.fetch_all(items, 16)}
        return [answers[item.id] for item in items]

    def code(self, url: str) -> str:
        """Why this URL could not be fetched."""
        [answer] = self.fetch(url)
        assert isinstance(answer, Failed)
        return answer.code


Make = Callable[[S3Server], Place]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    return lambda server: Place(tmp_path, server, monkeypatch)


def test_images_in_s3_are_fetched_where_the_account_has_a_grant(make: Make) -> None:
    place = make(moto())
    bucket = moto().new_bucket(**{"in/a.jpg": b"one", "in/b c%20d?e#f.jpg": b"two", "out/c.jpg": b"three"})
    place.grant(f"s3://{bucket}/in/")
    urls = [f"s3://{bucket}/{key}" for key in ("in/a.jpg", "in/b c%20d?e#f.jpg", "out/c.jpg")]
    one, two, three = place.fetch(*urls)
    assert (one, two) == (b"one", b"two")
    assert isinstance(three, Failed)
    assert three.code == "s3_forbidden"
    assert "allow-s3" in three.detail
    for answer in place.fetch(*urls, account_id=place.other_id):
        assert isinstance(answer, Failed)
        assert answer.code == "s3_forbidden"


def test_a_grant_that_was_taken_back_meanwhile_is_noticed(make: Make) -> None:
    place = make(moto())
    bucket = moto().new_bucket(**{"a.jpg": b"one"})
    place.grant(f"s3://{bucket}")
    assert place.fetch(f"s3://{bucket}/a.jpg") == [b"one"]
    with place.database.write() as session:
        assert buckets.revoke(session, place.account_id, parse_s3_prefix(f"s3://{bucket}"))
    assert place.code(f"s3://{bucket}/a.jpg") == "s3_forbidden"


def test_what_is_not_there_or_too_large_or_no_s3_url_has_its_own_code(make: Make) -> None:
    place = make(moto())
    bucket = moto().new_bucket(fits=bytes(LIMIT), large=bytes(LIMIT + 1))
    place.grant(f"s3://{bucket}")
    place.grant("s3://nobody-made-this")
    assert place.fetch(f"s3://{bucket}/fits") == [bytes(LIMIT)]
    assert place.code(f"s3://{bucket}/large") == "too_large"
    assert place.code(f"s3://{bucket}/gone.jpg") == "s3_missing"
    assert place.code("s3://nobody-made-this/a.jpg") == "s3_missing"
    assert place.code(f"s3://{bucket}/../a.jpg") == "fetch_failed"
    assert place.code("s3://127.0.0.1/a.jpg") == "fetch_failed"


def test_what_the_server_forbids_says_so_and_tells_no_secret(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with nanio(tmp_path / "nanio") as server:
        bucket = server.new_bucket(**{"a.jpg": b"one"})
        place = make(server)
        place.grant(f"s3://{bucket}")
        assert place.fetch(f"s3://{bucket}/a.jpg") == [b"one"]
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
        place.config = place.config.model_copy(update={"s3_region": "us-west-2"})  # a client of its own
        place.sources = Sources(place.database, place.blobs, place.config)
        [answer] = place.fetch(f"s3://{bucket}/a.jpg")
    assert isinstance(answer, Failed)
    assert answer.code == "s3_forbidden"
    assert SECRET not in caplog.text + answer.detail
    assert "not the secret" not in caplog.text + answer.detail


def test_a_server_that_is_away_fails_an_image_as_any_url_would(make: Make) -> None:
    place = make(away())
    place.grant("s3://photos")
    assert place.code("s3://photos/a.jpg") == "fetch_failed"


def test_a_blob_store_that_is_away_blames_no_image(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job = house.submit(b"face 1", b"face 2")
    kept = house.blobs
    config = away().settings(monkeypatch, house.config.home, blobs="s3://bucket/shield")
    house.blobs = open_blobs(config)  # type: ignore[assignment]
    with pytest.raises(StorageUnavailable):
        house.scanning(StubScanner()).scan_ready()
    assert [chunk.state for chunk in house.chunks(job)] == ["ready"]
    assert [chunk.deaths for chunk in house.chunks(job)] == [0]
    house.blobs = kept
    house.scanning(StubScanner()).scan_ready()
    assert house.outcomes(job) == ["fake", "fake"]
    house.check()


def test_an_upload_is_scanned_and_one_without_bytes_fails_alone(house: House) -> None:
    with house.database.write() as session:
        ids = [row.id for row in uploads.create(session, house.account_id, 3, 1)]
    house.blobs.put_upload(ids[0], io.BytesIO(b"face 1"), LIMIT)
    house.blobs.put_upload(ids[2], io.BytesIO(bytes(house.config.max_image_bytes + 1)), 10**6)
    with house.database.write() as session:
        new = [NewItem(upload=upload_id) for upload_id in ids]
        job = jobs.submit(session, house.account_id, new, 4)
    house.scanning(StubScanner()).scan_ready()
    assert house.outcomes(job) == ["fake", "upload_missing", "too_large"]


def away() -> S3Server:
    """A server that nobody runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return S3Server("http://{}:{}".format(*listener.getsockname()))
