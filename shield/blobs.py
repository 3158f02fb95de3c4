"""Blobs: stored bytes, keyed by their sha256. Content-addressed, so storing twice is storing once.

Beside them a store keeps uploads: bytes that were put under an upload's id before any submission named it. They may be
put again while their URL can be used, so they have no sha256 to go by.
"""

import contextlib
import hashlib
import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from shield.errors import BlobMissing, ShieldError, StorageUnavailable, UploadMissing
from shield.settings import Settings

PART = 1024 * 1024  # bytes copied at a time
PARTIAL = "partial-"  # begins the name of a file that is not whole yet, or is no blob any more
STALE_SECONDS = 24 * 3600.0  # a partial file this old belongs to nobody: its process was killed
PROBE_BYTES = 4096
SHA256 = re.compile("[0-9a-f]{64}")
UPLOAD_ID = re.compile("upl_[0-9a-f]{27}")
SLICES = 256  # of a store: by the first two digits of a sha256, and the last two of an upload's id, which are random


class TooLarge(ShieldError):
    """A stream holds more bytes than its limit."""

    code = "too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"larger than the limit of {limit} bytes")


class Blobs(Protocol):
    """A store of bytes. Any method raises StorageUnavailable when the store itself cannot do its part now."""

    def put(self, stream: IO[bytes], limit: int) -> str:
        """Store a stream durably, as if it were new; returns its sha256, 64 hex digits.

        Raises TooLarge beyond `limit` bytes, storing nothing.
        """
        ...

    def get(self, sha256: str) -> bytes:
        """The bytes. Raises BlobMissing."""
        ...

    def open(self, sha256: str) -> BinaryIO:
        """The bytes as a stream that can be read from any place; close it. Raises BlobMissing."""
        ...

    def remove_old(self, sha256: str, before: datetime) -> bool:
        """Remove a blob that was last put before this moment; whether there is none now.

        A request puts its blobs first and commits the rows that name them last. A purge that takes a moment further
        back than any request lasts, and then finds no row, so never removes what a request has put once more.
        """
        ...

    def put_upload(self, upload_id: str, stream: IO[bytes], limit: int) -> None:
        """Store an upload's bytes durably, in place of what it had. Raises TooLarge, changing nothing."""
        ...

    def get_upload(self, upload_id: str, limit: int) -> bytes:
        """An upload's bytes. Raises UploadMissing, and TooLarge for one of more than `limit` bytes."""
        ...

    def remove_upload(self, upload_id: str) -> None:
        """Forget an upload's bytes, if there are any."""
        ...

    def upload_url(self, upload_id: str, seconds: int) -> str | None:
        """A secret URL to PUT an upload's bytes to, straight to the store; None when put_upload is the only way."""
        ...

    def names(self, number: int) -> Iterator[str]:
        """The sha256 of every blob and the id of every upload in this slice, of SLICES.

        It is read as it goes: what is put or removed meanwhile may be among them or not. Raises as it goes, too.
        """
        ...

    def probe(self) -> None:
        """Raises StorageUnavailable when nothing can be stored."""
        ...

    def remove_stale(self) -> None:
        """Remove what processes that were killed in the middle of a put have left."""
        ...


def open_blobs(settings: Settings) -> Blobs:
    """The store of these settings: a folder, or a prefix of a bucket. Raises SettingsError for a malformed address."""
    if not settings.blobs.startswith("s3://"):
        return LocalBlobs(settings.blob_folder)
    from shield.s3 import S3Blobs  # loads boto3, which a folder can do without

    return S3Blobs(settings)


def copy(stream: IO[bytes], file: IO[bytes], limit: int) -> str:
    """Copy a stream part by part; its sha256. Raises TooLarge once it is over the limit."""
    digest, size = hashlib.sha256(), 0
    while part := stream.read(PART):
        size += len(part)
        if size > limit:
            raise TooLarge(limit)
        digest.update(part)
        file.write(part)
    return digest.hexdigest()


def checked(name: str, form: re.Pattern[str]) -> str:
    """This sha256 or upload id. Raises ValueError when it is none, so that no name leads elsewhere."""
    if form.fullmatch(name) is None:
        raise ValueError(f"not of the form {form.pattern}: {name!r}")
    return name


class MemoryBlobs:
    """Blobs in this process: for tests and single-process tools."""

    def __init__(self) -> None:
        self._bytes: dict[str, bytes] = {}
        self._put_at: dict[str, datetime] = {}
        self._uploads: dict[str, bytes] = {}

    def put(self, stream: IO[bytes], limit: int) -> str:
        """Keep the stream's bytes."""
        kept = io.BytesIO()
        sha256 = copy(stream, kept, limit)
        self._bytes[sha256] = kept.getvalue()
        self._put_at[sha256] = datetime.now(UTC)
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes kept under this name."""
        try:
            return self._bytes[checked(sha256, SHA256)]
        except KeyError:
            raise BlobMissing(f"no blob {sha256}") from None

    def open(self, sha256: str) -> BinaryIO:
        """A stream over them."""
        return io.BytesIO(self.get(sha256))

    def remove_old(self, sha256: str, before: datetime) -> bool:
        """Forget an old blob."""
        kept = checked(sha256, SHA256) in self._bytes
        if kept and self._put_at[sha256] >= before:
            return False
        self._bytes.pop(sha256, None)
        return True

    def put_upload(self, upload_id: str, stream: IO[bytes], limit: int) -> None:
        """Keep an upload's bytes."""
        kept = io.BytesIO()
        copy(stream, kept, limit)
        self._uploads[checked(upload_id, UPLOAD_ID)] = kept.getvalue()

    def get_upload(self, upload_id: str, limit: int) -> bytes:
        """The bytes kept for this upload."""
        content = self._uploads.get(checked(upload_id, UPLOAD_ID))
        if content is None:
            raise upload_missing(upload_id)
        if len(content) > limit:
            raise TooLarge(limit)
        return content

    def remove_upload(self, upload_id: str) -> None:
        """Forget an upload."""
        self._uploads.pop(checked(upload_id, UPLOAD_ID), None)

    def upload_url(self, upload_id: str, seconds: int) -> None:
        """None: there is no way into this process."""

    def names(self, number: int) -> Iterator[str]:
        """Those of a moment."""
        digits = f"{number:02x}"
        yield from [sha256 for sha256 in self._bytes if sha256.startswith(digits)]
        yield from [upload_id for upload_id in self._uploads if upload_id.endswith(digits)]

    def probe(self) -> None:
        """Memory is there."""

    def remove_stale(self) -> None:
        """Nothing outlives a process."""


class LocalBlobs:
    """Blobs as files, two levels of folders by hash. A file has its name only once it is whole and on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, stream: IO[bytes], limit: int) -> str:
        """Copy in parts, never the whole stream in memory; fsync, then rename."""
        return self._put(stream, limit, self.path)

    def get(self, sha256: str) -> bytes:
        """Read the file of this name."""
        with self.open(sha256) as file:
            return file.read()

    def open(self, sha256: str) -> BinaryIO:
        """The file of this name."""
        try:
            return self.path(sha256).open("rb")
        except FileNotFoundError:
            raise BlobMissing(f"no blob {sha256} in {self.folder}: was it deleted by hand?") from None

    def remove_old(self, sha256: str, before: datetime) -> bool:
        """Rename an old file away before it is removed, look at its age again, and bring it back when it is fresh.

        Between a look and a removal a put might rename its own file to this name; a file that has been renamed away is
        nobody's to replace.
        """
        path, away = self.path(sha256), self.folder / f"{PARTIAL}{os.urandom(8).hex()}"
        oldest = before.timestamp()
        with storing():
            try:
                if path.stat().st_mtime >= oldest:
                    return False
                path.rename(away)
            except FileNotFoundError:
                return True
            if away.stat().st_mtime >= oldest:
                away.rename(path)
                return False
            away.unlink()
        return True

    def put_upload(self, upload_id: str, stream: IO[bytes], limit: int) -> None:
        """As a blob, under the upload's id."""
        path = self._upload_path(upload_id)
        self._put(stream, limit, lambda _: path)

    def get_upload(self, upload_id: str, limit: int) -> bytes:
        """Read the upload's file."""
        try:
            with self._upload_path(upload_id).open("rb") as file:
                content = file.read(limit + 1)
        except FileNotFoundError:
            raise upload_missing(upload_id) from None
        if len(content) > limit:
            raise TooLarge(limit)
        return content

    def remove_upload(self, upload_id: str) -> None:
        """Remove the upload's file."""
        with storing():
            self._upload_path(upload_id).unlink(missing_ok=True)

    def upload_url(self, upload_id: str, seconds: int) -> None:
        """None: a folder is not on the web."""

    def names(self, number: int) -> Iterator[str]:
        """Read two folders: one of folders with blobs, and one of uploads."""
        digits = f"{number:02x}"
        for folder in _listed(self.folder / digits):
            for name in _listed(self.folder / digits / folder):
                if SHA256.fullmatch(name) and self.path(name) == self.folder / digits / folder / name:
                    yield name
        yield from filter(UPLOAD_ID.fullmatch, _listed(self.folder / "uploads" / digits))

    def probe(self) -> None:
        """Write a small file and remove it."""
        with storing():
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=PARTIAL) as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()

    def remove_stale(self) -> None:
        """Remove partial files that are old."""
        oldest = time.time() - STALE_SECONDS
        for file in self.folder.glob(f"{PARTIAL}*"):
            with contextlib.suppress(OSError):  # another process was first, or it is not ours to remove
                if file.stat().st_mtime < oldest:
                    file.unlink()

    def path(self, sha256: str) -> Path:
        """Where a blob lies. Raises ValueError when this is not a sha256."""
        name = checked(sha256, SHA256)
        return self.folder / name[:2] / name[2:4] / name

    def _upload_path(self, upload_id: str) -> Path:
        name = checked(upload_id, UPLOAD_ID)
        return self.folder / "uploads" / name[-2:] / name

    def _put(self, stream: IO[bytes], limit: int, place: Callable[[str], Path]) -> str:
        """Write a stream to where `place` puts its sha256; it appears there whole."""
        with storing():
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=PARTIAL, delete=False) as file:
                try:
                    sha256 = copy(stream, file, limit)
                    file.flush()
                    os.fsync(file.fileno())
                    path = place(sha256)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Path(file.name).replace(path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
            _sync_folder(path.parent)
        return sha256


def upload_missing(upload_id: str) -> UploadMissing:
    """What to say of an upload without bytes."""
    return UploadMissing(f"nothing was PUT to the URL of upload {upload_id} before its image was scanned")


@contextlib.contextmanager
def storing() -> Iterator[None]:
    """Turns a fault of the disk into StorageUnavailable."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"the blob store cannot take this now: {error.strerror or error}") from error


def _listed(folder: Path) -> list[str]:
    """What lies in a folder; nothing where it is none."""
    with storing():
        try:
            return [path.name for path in folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the folder's entry is data too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
