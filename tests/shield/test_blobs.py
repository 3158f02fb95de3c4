import hashlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shield.blobs import STALE_SECONDS, Blobs, LocalBlobs, MemoryBlobs, TooLarge
from shield.errors import BlobMissing

STORES: dict[str, Callable[[Path], Blobs]] = {"local": LocalBlobs, "memory": lambda _: MemoryBlobs()}


@pytest.fixture(params=sorted(STORES))
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return STORES[request.param](tmp_path / "blobs")


def test_what_is_put_is_got_under_its_sha256(blobs: Blobs) -> None:
    content = bytes(range(256)) * 9000  # more than two parts
    name = blobs.put(io.BytesIO(content), limit=len(content))
    assert name == hashlib.sha256(content).hexdigest()
    assert blobs.get(name) == content


def test_putting_twice_is_putting_once(blobs: Blobs) -> None:
    assert blobs.put(io.BytesIO(b"x"), 10) == blobs.put(io.BytesIO(b"x"), 10)


def test_an_empty_stream_is_a_blob(blobs: Blobs) -> None:
    assert blobs.get(blobs.put(io.BytesIO(b""), 10)) == b""


def test_a_stream_over_the_limit_is_refused(blobs: Blobs) -> None:
    with pytest.raises(TooLarge):
        blobs.put(io.BytesIO(b"12345"), limit=4)
    with pytest.raises(BlobMissing):
        blobs.get(hashlib.sha256(b"12345").hexdigest())


def test_a_missing_blob_is_said_to_be_missing(blobs: Blobs) -> None:
    with pytest.raises(BlobMissing):
        blobs.get("0" * 64)


def test_a_refused_stream_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        LocalBlobs(tmp_path).put(io.BytesIO(b"12345"), limit=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "0" * 63, ""])
def test_a_name_that_is_no_sha256_leads_nowhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a sha256"):
        LocalBlobs(tmp_path).get(name)


def test_partial_files_are_removed_once_they_are_old(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    kept = blobs.put(io.BytesIO(b"x"), 10)
    old, young = tmp_path / "partial-old", tmp_path / "partial-young"
    long_ago = time.time() - STALE_SECONDS - 60
    for path in (old, young):
        path.touch()
    for path in (old, blobs.path(kept)):
        os.utime(path, (long_ago, long_ago))
    blobs.remove_stale()
    assert not old.exists()
    assert young.exists()
    assert blobs.get(kept) == b"x"
