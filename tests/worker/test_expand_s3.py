"""Expanding out of S3: a prefix of more than one page of keys, and manifests and zips that are kept there."""

import io
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import select

from shield import buckets, expansion
from shield.blobs import open_blobs
from shield.buckets import Place
from shield.models import Item, Job
from shield.states import SourceKind
from tests import zips
from tests.s3 import S3Server, moto, nanio
from tests.worker.conftest import House
from tests.worker.test_expand import line, rejected
from worker import expand
from worker.expand import STEP, Expander


@pytest.fixture
def server() -> S3Server:
    return moto()


class Bucketed:
    """The house with the settings of an S3 server, and a bucket there of which the account may read photos/."""

    def __init__(self, house: House, server: S3Server, monkeypatch: pytest.MonkeyPatch, blobs: str = "") -> None:
        self.house = house
        self.server = server
        self.config = server.settings(monkeypatch, house.config.home, blobs=blobs)
        self.bucket = server.new_bucket()
        with house.database.write() as session:
            buckets.grant(session, house.account_id, Place(self.bucket, "photos/"))

    def fill(self, *keys: str) -> None:
        client = self.server.client

        def put(key: str) -> None:
            """Consoles make a folder as an object without a byte."""
            client.put_object(Bucket=self.bucket, Key=key, Body=b"" if key.endswith("/") else b"face")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, keys))

    def begin(self, prefix: str, bucket: str = "") -> Job:
        with self.house.database.write() as session:
            url = f"s3://{bucket or self.bucket}/{prefix}"
            return expansion.submit(session, self.house.account_id, SourceKind.PREFIX, url=url)

    def expander(self, **changes: object) -> Expander:
        return Expander(self.house.database, open_blobs(self.config), self.config.model_copy(update=changes))

    def expand(self, **changes: object) -> None:
        taken = self.expander(**changes)
        while taken.turn():
            pass

    def items(self, job: Job) -> list[tuple[str | None, str | None]]:
        with self.house.database.read() as session:
            rows = select(Item.source_url, Item.custom_id).where(Item.job_id == job.id).order_by(Item.ordinal)
            return [(url, custom_id) for url, custom_id in session.execute(rows)]


@pytest.fixture
def bucketed(house: House, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucketed:
    return Bucketed(house, server, monkeypatch)


def test_every_key_of_a_prefix_becomes_an_item_over_several_pages_and_processes(bucketed: Bucketed) -> None:
    keys = [f"photos/{n:05d} ü+%20.jpg" for n in range(STEP[SourceKind.PREFIX] + 30)]
    bucketed.fill(*keys, "other/x.jpg", "photos", "photos/")
    job = bucketed.begin("photos/")
    assert bucketed.expander().turn()
    assert 0 < bucketed.house.job(job).total < len(keys)
    bucketed.expand()
    assert bucketed.items(job) == [(f"s3://{bucketed.bucket}/{key}", key) for key in keys]
    row = bucketed.house.job(job)
    assert (row.state, row.rejected) == ("queued", 0)
    bucketed.house.check()


def test_a_prefix_without_keys_ends_its_job_without_an_item(bucketed: Bucketed) -> None:
    job = bucketed.begin("photos/none/")
    bucketed.expand()
    row = bucketed.house.job(job)
    assert (row.state, row.total, row.reason) == ("ended", 0, None)


def test_keys_beyond_the_limit_are_rejected_once(bucketed: Bucketed) -> None:
    bucketed.fill(*(f"photos/{n}" for n in range(6)))
    job = bucketed.begin("photos/")
    bucketed.expand(max_source_items=4)
    assert len(bucketed.items(job)) == 4
    assert rejected(bucketed.house, job) == [(5, "too_many_items")]


def test_a_key_that_no_url_can_name_is_rejected(bucketed: Bucketed) -> None:
    bucketed.fill("photos/a.jpg", "photos/../b.jpg")
    job = bucketed.begin("photos/")
    bucketed.expand()
    assert [custom_id for _, custom_id in bucketed.items(job)] == ["photos/a.jpg"]
    assert rejected(bucketed.house, job) == [(1, "invalid_item")]


@pytest.mark.parametrize(("bucket", "prefix"), [("", ""), ("", "phot"), ("a-bucket-of-nobody", "photos/")])
def test_a_prefix_without_a_grant_ends_its_job_with_a_reason(bucketed: Bucketed, bucket: str, prefix: str) -> None:
    job = bucketed.begin(prefix, bucket)
    bucketed.expand()
    row = bucketed.house.job(job)
    assert (row.state, row.reason, row.total) == ("ended", "source_failed", 0)
    assert "may not read" in (row.reason_detail or "")


def test_a_bucket_that_is_gone_ends_its_job_with_a_reason(bucketed: Bucketed) -> None:
    job = bucketed.begin("photos/")
    bucketed.server.client.delete_bucket(Bucket=bucketed.bucket)
    bucketed.expand()
    row = bucketed.house.job(job)
    assert (row.state, row.reason) == ("ended", "source_failed")
    assert "NoSuchBucket" in (row.reason_detail or "")


@pytest.fixture
def nobody() -> Iterator[str]:
    """The URL of a server that is away."""
    with socket.socket() as deaf:  # bound and not listening: whoever connects is refused
        deaf.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}"


def test_an_s3_server_that_is_away_is_waited_for(bucketed: Bucketed, nobody: str) -> None:
    bucketed.fill("photos/a.jpg")
    job = bucketed.begin("photos/")
    away = bucketed.expander(s3_endpoint_url=nobody, relay_seconds=3600.0)
    assert away.turn()
    assert not away.turn()
    assert bucketed.house.job(job).state == "expanding"
    bucketed.expand()
    assert [custom_id for _, custom_id in bucketed.items(job)] == ["photos/a.jpg"]


def test_an_s3_server_that_stays_away_is_given_up(
    bucketed: Bucketed, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bucketed.begin("photos/")
    away = bucketed.expander(s3_endpoint_url=nobody, relay_seconds=0.0)
    assert away.turn()
    assert bucketed.house.job(job).state == "expanding"
    monkeypatch.setattr(expand, "GIVE_UP_SECONDS", 0.0)
    assert away.turn()
    row = bucketed.house.job(job)
    assert (row.state, row.reason) == ("ended", "source_failed")
    assert "in vain" in (row.reason_detail or "")


def test_without_credentials_a_prefix_fails_at_once(bucketed: Bucketed, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bucketed.begin("photos/")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(bucketed.house.config.home / "none"))
    bucketed.expand(s3_region="without-credentials-1")  # a client of its own: one is kept for each server and region
    row = bucketed.house.job(job)
    assert (row.state, row.reason) == ("ended", "source_failed")
    assert "no S3 credentials" in (row.reason_detail or "")


@pytest.mark.parametrize(
    ("variable", "code"),
    [("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch")],
)
def test_with_wrong_credentials_a_prefix_fails_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch, variable: str, code: str
) -> None:
    with nanio(house.config.home / "nanio") as server:
        bucketed = Bucketed(house, server, monkeypatch)
        monkeypatch.setenv(variable, "AKIANOTTHERIGHTVALUE")
        job = bucketed.begin("photos/")
        bucketed.expand()
    row = house.job(job)
    assert (row.state, row.reason) == ("ended", "source_failed")
    assert f"({code}): the operator corrects" in (row.reason_detail or "")


class Elsewhere(BaseHTTPRequestHandler):
    """Answers as Amazon does for a bucket of another region; the path's first word says in which way."""

    def do_GET(self) -> None:
        status, code = (301, "PermanentRedirect") if "moved" in self.path else (400, "AuthorizationHeaderMalformed")
        body = f"<Error><Code>{code}</Code><Message>elsewhere</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize("bucket", ["moved", "malformed"])
def test_a_bucket_of_another_region_fails_at_once(bucketed: Bucketed, bucket: str) -> None:
    with bucketed.house.database.write() as session:
        buckets.grant(session, bucketed.house.account_id, Place(bucket, ""))
    job = bucketed.begin("photos/", bucket)
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            bucketed.expand(s3_endpoint_url=f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    row = bucketed.house.job(job)
    assert (row.state, row.reason) == ("ended", "source_failed")
    assert "sets SHIELD_S3_REGION" in (row.reason_detail or "")


def test_a_manifest_and_a_zip_that_are_kept_in_s3_expand_as_well(
    house: House, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucketed = Bucketed(house, server, monkeypatch, blobs=f"s3://{server.new_bucket()}/blobs")
    blobs = open_blobs(bucketed.config)
    lines = STEP[SourceKind.MANIFEST] + 5
    content = {
        SourceKind.MANIFEST: b"".join(line(n) for n in range(lines)),
        SourceKind.ZIP: zips.zip_of(("a.jpg", b"face a"), ("b.jpg", b"face b")),
    }
    made = []
    for kind, body in content.items():
        blob = blobs.put(io.BytesIO(body), 10**9)
        with house.database.write() as session:
            made.append(expansion.submit(session, house.account_id, kind, blob=blob))
    bucketed.expand()
    manifest, archive = made
    assert (house.job(manifest).total, house.job(manifest).rejected) == (lines, 0)
    assert [blobs.get(item.source_blob or "") for item in house.items(archive)] == [b"face a", b"face b"]
