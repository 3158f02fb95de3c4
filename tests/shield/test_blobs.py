"""Every blob store keeps to one contract, over real files and a real S3 server; then what each has for itself."""

import hashlib
import io
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from shield.blobs import SLICES, Blobs, LocalBlobs, MemoryBlobs, TooLarge, open_blobs
from shield.errors import BlobMissing, UploadMissing
from shield.s3 import IN_MEMORY, WINDOW, S3Blobs
from tests.s3 import moto

UPLOAD = f"upl_{'0' * 27}"
HOUR = timedelta(hours=1)
Make = Callable[[], Blobs]


@pytest.fixture(params=["local", "memory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    if request.param == "memory":
        return MemoryBlobs()
    if request.param == "local":
        return LocalBlobs(tmp_path / "blobs")
    return open_blobs(moto().settings(monkeypatch, tmp_path, blobs=f"s3://{moto().new_bucket()}/shield/blobs"))


def put(blobs: Blobs, content: bytes) -> str:
    return blobs.put(io.BytesIO(content), limit=len(content))


def later() -> datetime:
    return datetime.now(UTC) + HOUR


def test_what_is_put_is_got_under_its_sha256(blobs: Blobs) -> None:
    content = bytes(range(256)) * (IN_MEMORY // 256 + 9000)  # more than a part, and than what is spooled in memory
    name = put(blobs, content)
    assert name == hashlib.sha256(content).hexdigest()
    assert blobs.get(name) == content


def test_putting_twice_is_putting_once(blobs: Blobs) -> None:
    assert put(blobs, b"x") == put(blobs, b"x")


def test_an_empty_stream_is_a_blob(blobs: Blobs) -> None:
    empty = put(blobs, b"")
    assert blobs.get(empty) == b""
    with blobs.open(empty) as stream:
        assert stream.read() == b""


def test_a_stream_over_the_limit_is_refused(blobs: Blobs) -> None:
    with pytest.raises(TooLarge):
        blobs.put(io.BytesIO(b"12345"), limit=4)
    with pytest.raises(BlobMissing):
        blobs.get(hashlib.sha256(b"12345").hexdigest())


def test_a_missing_blob_is_said_to_be_missing(blobs: Blobs) -> None:
    for ask in (blobs.get, blobs.open):
        with pytest.raises(BlobMissing):
            ask("0" * 64)


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "0" * 63, ""])
def test_a_name_that_is_no_sha256_leads_nowhere(blobs: Blobs, name: str) -> None:
    for ask in (blobs.get, blobs.open, lambda sha256: blobs.remove_old(sha256, later())):
        with pytest.raises(ValueError, match="not of the form"):
            ask(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "upl_", f"UPL_{'0' * 27}", f"upl_{'0' * 27}/x", ""])
def test_a_name_that_is_no_upload_leads_nowhere(blobs: Blobs, name: str) -> None:
    for ask in (
        lambda upload_id: blobs.get_upload(upload_id, 10),
        lambda upload_id: blobs.put_upload(upload_id, io.BytesIO(b"x"), 10),
        blobs.remove_upload,
    ):
        with pytest.raises(ValueError, match="not of the form"):
            ask(name)


def test_a_stream_of_a_blob_is_read_from_any_place(blobs: Blobs) -> None:
    content = b"".join(b"line %07d\n" % number for number in range(3 * WINDOW // 13))
    with blobs.open(put(blobs, content)) as stream:
        assert stream.readline() == content[:13]
        stream.seek(13 * 100_000)
        assert stream.readline() == b"line 0100000\n"
        assert stream.tell() == 13 * 100_001
        assert stream.seek(-13, io.SEEK_END) == len(content) - 13
        assert stream.read() == content[-13:]
        assert stream.read() == b""
        stream.seek(5)
        assert stream.read() == content[5:]
        stream.seek(0)
        assert sum(1 for _ in stream) == content.count(b"\n")


def test_only_a_blob_that_was_put_before_the_moment_is_removed(blobs: Blobs) -> None:
    name = put(blobs, b"x")
    assert not blobs.remove_old(name, datetime.now(UTC) - HOUR)
    assert blobs.get(name) == b"x"
    assert blobs.remove_old(name, later())
    with pytest.raises(BlobMissing):
        blobs.get(name)
    assert blobs.remove_old(name, later())  # there is none


def test_putting_again_makes_a_blob_young(blobs: Blobs) -> None:
    name = put(blobs, b"x")
    # S3 tells an object's age in whole seconds, and is given one more; a file's age comes from a coarse clock.
    time.sleep(2.1 if isinstance(blobs, S3Blobs) else 0.05)
    between = datetime.now(UTC)
    time.sleep(0.05)
    assert put(blobs, b"x") == name
    assert not blobs.remove_old(name, between)
    assert blobs.get(name) == b"x"


def test_an_upload_is_put_again_and_again_until_it_is_removed(blobs: Blobs) -> None:
    with pytest.raises(UploadMissing):
        blobs.get_upload(UPLOAD, 10)
    for content in (b"first", b"second"):
        blobs.put_upload(UPLOAD, io.BytesIO(content), 10)
        assert blobs.get_upload(UPLOAD, 10) == content
    blobs.remove_upload(UPLOAD)
    blobs.remove_upload(UPLOAD)
    with pytest.raises(UploadMissing):
        blobs.get_upload(UPLOAD, 10)


def test_an_upload_over_the_limit_is_refused_and_changes_nothing(blobs: Blobs) -> None:
    blobs.put_upload(UPLOAD, io.BytesIO(b"good"), 4)
    with pytest.raises(TooLarge):
        blobs.put_upload(UPLOAD, io.BytesIO(b"12345"), 4)
    assert blobs.get_upload(UPLOAD, 4) == b"good"
    with pytest.raises(TooLarge):
        blobs.get_upload(UPLOAD, 3)


def test_bytes_reach_an_upload_by_a_url_where_the_store_is_on_the_web_alone(blobs: Blobs) -> None:
    url = blobs.upload_url(UPLOAD, 60)
    assert (url is None) == (not isinstance(blobs, S3Blobs))
    if url is not None:
        assert httpx.put(url, content=b"x").status_code == 200
        assert blobs.get_upload(UPLOAD, 10) == b"x"


def test_every_blob_and_upload_is_in_one_slice(blobs: Blobs) -> None:
    put_there = {put(blobs, b"%d" % number) for number in range(40)}
    for upload_id in (UPLOAD, f"upl_{'1' * 25}7f"):
        blobs.put_upload(upload_id, io.BytesIO(b"x"), 10)
        put_there.add(upload_id)
    blobs.probe()
    found = {number: list(blobs.names(number)) for number in range(SLICES)}
    assert sorted(name for names in found.values() for name in names) == sorted(put_there)
    assert f"upl_{'1' * 25}7f" in found[0x7F]
    sha256 = put(blobs, b"0")
    assert sha256 in found[int(sha256[:2], 16)]


def test_what_is_put_and_removed_while_names_are_read_does_no_harm(blobs: Blobs) -> None:
    there = put(blobs, b"0")
    names = blobs.names(int(there[:2], 16))
    blobs.remove_old(there, later())
    assert list(names) in ([], [there])


def test_a_store_that_is_well_says_so_and_keeps_no_trace_of_it(blobs: Blobs) -> None:
    name = put(blobs, b"x")
    blobs.probe()
    blobs.remove_stale()
    assert blobs.get(name) == b"x"
