"""What a folder of blobs has for itself: partial files, a full disk, and a purge that races with a put."""

import io
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shield.blobs import STALE_SECONDS, LocalBlobs, TooLarge, open_blobs
from shield.errors import StorageUnavailable
from shield.settings import Settings

UPLOAD = f"upl_{'0' * 27}"


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def age(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_a_folder_is_what_the_settings_open(tmp_path: Path) -> None:
    opened = open_blobs(Settings(home=tmp_path, _env_file=None))
    assert isinstance(opened, LocalBlobs)
    assert opened.folder == tmp_path / "blobs"


def test_a_refused_stream_leaves_no_file(blobs: LocalBlobs) -> None:
    with pytest.raises(TooLarge):
        blobs.put(io.BytesIO(b"12345"), limit=4)
    with pytest.raises(TooLarge):
        blobs.put_upload(UPLOAD, io.BytesIO(b"12345"), limit=4)
    assert files(blobs.folder) == []


def test_partial_files_are_removed_once_they_are_old(blobs: LocalBlobs) -> None:
    kept = blobs.put(io.BytesIO(b"x"), 10)
    old, young = blobs.folder / "partial-old", blobs.folder / "partial-young"
    for path in (old, young):
        path.touch()
    for path in (old, blobs.path(kept)):
        age(path, STALE_SECONDS + 60)
    blobs.remove_stale()
    assert not old.exists()
    assert young.exists()
    assert blobs.get(kept) == b"x"


def test_a_disk_that_takes_nothing_is_unavailable_storage(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    blobs = LocalBlobs(tmp_path / "file" / "blobs")  # no folder can be made there, whoever tries
    for attempt in (
        lambda: blobs.put(io.BytesIO(b"x"), 10),
        lambda: blobs.put_upload(UPLOAD, io.BytesIO(b"x"), 10),
        blobs.probe,
    ):
        with pytest.raises(StorageUnavailable, match="Not a directory"):
            attempt()


def test_a_disk_that_fills_up_leaves_no_file(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageUnavailable, match="No space left"):
        blobs.put(io.BytesIO(b"x"), 10)
    assert files(blobs.folder) == []


def test_a_blob_that_is_put_while_it_is_being_removed_stays(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    name = blobs.put(io.BytesIO(b"x"), 10)
    age(blobs.path(name), 7200)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    rename: Callable[[Path, Path], Path] = Path.rename

    def put_first(path: Path, target: Path) -> Path:
        monkeypatch.undo()
        blobs.put(io.BytesIO(b"x"), 10)  # after the purge has found it old, before it takes it away
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", put_first)
    assert not blobs.remove_old(name, hour_ago)
    assert files(blobs.folder) == [name]
    assert blobs.get(name) == b"x"


def test_removing_leaves_no_file_behind(blobs: LocalBlobs) -> None:
    name = blobs.put(io.BytesIO(b"x"), 10)
    assert blobs.remove_old(name, datetime.now(UTC) + timedelta(hours=1))
    assert files(blobs.folder) == []


def test_files_that_are_no_blobs_are_passed_over(blobs: LocalBlobs) -> None:
    name = blobs.put(io.BytesIO(b"x"), 10)
    number, folder = int(name[:2], 16), blobs.path(name).parent
    for other in (folder / "notes.txt", folder.parent / "file", folder / ("0" * 64), blobs.folder / "uploads"):
        other.touch()
    assert list(blobs.names(number)) == [name]


def test_a_folder_that_cannot_be_read_is_unavailable_storage(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> list[Path]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "iterdir", broken)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        list(blobs.names(0))
