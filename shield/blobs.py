"""Blobs: stored bytes, keyed by their sha256. Content-addressed, so storing twice is storing once."""

import contextlib
import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, Protocol

from shield.errors import BlobMissing

PART = 1024 * 1024  # bytes copied at a time
PARTIAL = "partial-"  # begins the name of a file that is not whole yet
STALE_SECONDS = 24 * 3600.0  # a partial file this old belongs to nobody: its process was killed
PROBE_BYTES = 4096
SHA256 = re.compile("[0-9a-f]{64}")


class TooLarge(Exception):
    """A stream holds more bytes than its limit."""


class Blobs(Protocol):
    """A store of bytes by sha256 (64 hex digits)."""

    def put(self, stream: BinaryIO, limit: int) -> str:
        """Store a stream durably; returns its sha256. Raises TooLarge beyond `limit` bytes, storing nothing."""
        ...

    def get(self, sha256: str) -> bytes:
        """The bytes. Raises BlobMissing."""
        ...


class MemoryBlobs:
    """Blobs in this process: for tests and single-process tools."""

    def __init__(self) -> None:
        self._bytes: dict[str, bytes] = {}

    def put(self, stream: BinaryIO, limit: int) -> str:
        """Keep the stream's bytes."""
        content = stream.read(limit + 1)
        if len(content) > limit:
            raise TooLarge(f"more than {limit} bytes")
        sha256 = hashlib.sha256(content).hexdigest()
        self._bytes[sha256] = content
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes kept under this name."""
        try:
            return self._bytes[sha256]
        except KeyError:
            raise BlobMissing(f"no blob {sha256}") from None


class LocalBlobs:
    """Blobs as files, two levels of folders by hash. A file has its name only once it is whole and on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, stream: BinaryIO, limit: int) -> str:
        """Copy in parts, never the whole stream in memory; fsync, then rename."""
        self.folder.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=PARTIAL, delete=False) as file:
            try:
                while part := stream.read(PART):
                    size += len(part)
                    if size > limit:
                        raise TooLarge(f"more than {limit} bytes")
                    digest.update(part)
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
                path = self.path(digest.hexdigest())
                path.parent.mkdir(parents=True, exist_ok=True)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        _sync_folder(path.parent)
        return digest.hexdigest()

    def get(self, sha256: str) -> bytes:
        """Read the file of this name."""
        try:
            return self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise BlobMissing(f"no blob {sha256} in {self.folder}: was it deleted by hand?") from None

    def probe(self) -> None:
        """Write a small file and remove it. Raises OSError when nothing can be stored, as on a full disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=PARTIAL) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()

    def remove_stale(self) -> None:
        """Remove the partial files of processes that were killed in the middle of a put."""
        oldest = time.time() - STALE_SECONDS
        for file in self.folder.glob(f"{PARTIAL}*"):
            with contextlib.suppress(OSError):  # another process was first, or it is not ours to remove
                if file.stat().st_mtime < oldest:
                    file.unlink()

    def path(self, sha256: str) -> Path:
        """Where a blob lies. Raises ValueError when this is not a sha256, so that no name leads elsewhere."""
        if SHA256.fullmatch(sha256) is None:
            raise ValueError(f"not a sha256: {sha256!r}")
        return self.folder / sha256[:2] / sha256[2:4] / sha256


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the folder's entry is data too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
