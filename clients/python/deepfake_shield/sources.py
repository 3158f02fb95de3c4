"""What is to be scanned: files on this machine, and URLs that the server fetches."""

import io
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deepfake_shield.errors import NothingToScan

Given = str | os.PathLike[str]

# What a folder is searched for. A file that is named itself is sent whatever its name: the server judges its bytes.
IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpe", ".jpeg", ".jpg", ".png", ".webp"})

# A submission of more than this becomes several jobs; both lie below the server's defaults for one request.
JOB_ITEMS = 5_000
JOB_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file: its path as given, which is also its custom_id, and its size in bytes."""

    path: str
    size: int

    @property
    def custom_id(self) -> str:
        """The path as given; bytes that are no text are replaced."""
        return self.path.encode(errors="replace").decode()


@dataclass(frozen=True, slots=True)
class UrlSource:
    """An image that the server fetches; the URL is also its custom_id."""

    url: str
    size: int = 0  # bytes that are sent for it

    @property
    def custom_id(self) -> str:
        """The URL."""
        return self.url


Source = FileSource | UrlSource


def find(given: Given | Iterable[Given]) -> list[Source]:
    """Files and URLs as given, and the image files of folders, each folder in the order of names.

    Raises NothingToScan when a path is not there, is not a file that can be read, or when there is nothing at all.
    """
    each: Iterable[Given] = (given,) if isinstance(given, str | os.PathLike) else given
    found = [source for one in each for source in _sources(os.fspath(one))]
    if not found:
        raise NothingToScan(f"there is no image to scan: folders are searched for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return found


def split(sources: list[Source]) -> Iterator[list[Source]]:
    """Shares of at most JOB_ITEMS sources and JOB_BYTES bytes: those of files, then those of URLs, both in order.

    Files and URLs are different requests, so no share holds both. A file that is too large is a share of its own.
    """
    for kind in (FileSource, UrlSource):
        share: list[Source] = []
        size = 0
        for source in (one for one in sources if isinstance(one, kind)):
            if share and (len(share) == JOB_ITEMS or size + source.size > JOB_BYTES):
                yield share
                share, size = [], 0
            share.append(source)
            size += source.size
        if share:
            yield share


def _sources(given: str) -> Iterator[Source]:
    if given.startswith(("http://", "https://")):
        yield UrlSource(given)
    elif (folder := Path(given)).is_dir():
        for path in sorted(folder.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if not hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                yield _file(str(path))
    else:
        yield _file(given)


def _file(path: str) -> FileSource:
    try:
        facts = Path(path).stat()
    except OSError as error:
        raise NothingToScan(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise NothingToScan(f"{path}: not a file, a folder or a URL")
    if not os.access(path, os.R_OK):
        raise NothingToScan(f"{path}: this file cannot be read")
    return FileSource(path, facts.st_size)


class LateFile(io.RawIOBase):
    """A file that is open only while its bytes are read, so that thousands may stand in one request.

    Reading raises NothingToScan when the file has gone or has another size than before: the request's length is said.
    """

    def __init__(self, source: FileSource) -> None:
        super().__init__()
        self._source = source
        self._file: BinaryIO | None = None
        self._place = 0

    def tell(self) -> int:
        """Bytes from the start."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the file itself is opened by the next read."""
        self.shut()
        self._place = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._source.size}[whence] + offset
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; b"" at the end, where the file is closed again."""
        try:
            if self._file is None and self._place < self._source.size:
                self._file = Path(self._source.path).open("rb")  # noqa: SIM115 - shut at the end of the file
                self._file.seek(self._place)
            chunk = self._file.read(size) if self._file else b""
        except OSError as error:
            raise NothingToScan(f"{self._source.path}: {error.strerror}") from error
        self._place += len(chunk)
        if not chunk:
            self.shut()
        if self._place > self._source.size or (not chunk and self._place < self._source.size):
            raise NothingToScan(f"{self._source.path}: this file changed while it was sent")
        return chunk

    def shut(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file:
            self._file.close()
            self._file = None
