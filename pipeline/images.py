"""Guarded decoding: bytes that anybody may have sent become 8-bit RGB pixels, or an ImageError with a stable code.

What the first bytes tell is checked here; decoding itself happens in a child process (`pipeline.decode_child`) that has
an empty environment and can do nothing but compute (`pipeline.confine`). A picture that kills the child costs its own
scan and nothing else: the next one gets a new child. Hostile bytes might take the child over, so nothing that it says
is believed: it answers in four numbers, and pixels come through shared memory whose size is ours to set.
"""

import fcntl
import logging
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.decode_child import ANSWER, OUTCOMES, REQUEST, SHRINKS, shrunk
from pipeline.results import ErrorCode

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")

ROOT: Final = Path(__file__).resolve().parent.parent
START_SECONDS: Final = 60.0  # a child's imports take a tenth of a second, on a machine that is not overloaded

KEPT_BYTES: Final = 16_000_000  # of shared memory, for the next image: new pages cost more than copying them out
# All that is in a child's environment. glibc keeps what it frees for the next image, rather than give it back at once;
# NumPy's library for matrices starts no threads, beside which no namespace could be left.
ENVIRONMENT: Final = {
    "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "OPENBLAS_NUM_THREADS": "1",
}

# The formats whose decoders see daily use and care. Everything else is refused by name.
ALLOWED: Final = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
BMP_HEADERS: Final = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes of the second header, in every version of BMP
KNOWN: Final = {
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xffO\xffQ": "JPEG 2000",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"8BPS": "PSD",
    b"\x00\x00\x01\x00": "ICO",
    b"DDS ": "DDS",
    b"qoif": "QOI",
    b"v/1\x01": "OpenEXR",
    b"<svg": "SVG",
    b"%PDF": "PDF",
}
DETAILS: Final = {
    ErrorCode.TRUNCATED: "the {format} file ends before the image does",
    ErrorCode.TOO_MANY_PIXELS: "{width} x {height} pixels are more than the limit of {limits.max_pixels}",
    ErrorCode.TOO_LARGE: "decoding needs more memory than an image may take",
    ErrorCode.DECODE_FAILED: "the {format} file is damaged",
}
HEIF_BRANDS: Final = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")


class ImageError(Exception):
    """An image that cannot be decoded: `code` is stable, `detail` is a sentence for people."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one decode may cost. `seconds` is wall-clock time, `cpu_seconds` the child's processor time.

    `memory_bytes` is the child's address space, libraries and shared memory included.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    seconds: float = 9.0
    cpu_seconds: int = 8
    memory_bytes: int = 3 * 2**29


@dataclass(frozen=True, slots=True)
class Decoded:
    """Upright RGB pixels, uint8 [H, W, 3], the format they came in, and the size of the image in pixels.

    The pixels are all of the image, or those of a copy `shrink` times smaller (2, 4 or 8), whose sides are rounded up.
    """

    pixels: Pixels
    format: str
    width: int
    height: int
    shrink: int = 1


def sniff(content: bytes) -> str:
    """The format that the first bytes tell: JPEG, PNG, WEBP, GIF or BMP.

    Raises ImageError: empty, unsupported_format (an image, but of a kind that is not decoded), not_an_image.
    """
    if not content:
        raise ImageError(ErrorCode.EMPTY, "the file has 0 bytes")
    for start, name in ALLOWED.items():
        if content.startswith(start):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:2] == b"BM" and int.from_bytes(content[14:18], "little") in BMP_HEADERS:
        return "BMP"  # two letters alone may begin any text
    known = next((name for start, name in KNOWN.items() if content.startswith(start)), None)
    if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS:
        known = "HEIF or AVIF"
    if known:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"{known} is not decoded: send JPEG, PNG, WEBP, GIF or BMP")
    raise ImageError(ErrorCode.NOT_AN_IMAGE, "the first bytes are those of no image format")


class Decoder:
    """One child process that decodes images, one after the other. Not for use by two threads at once.

    On Linux a child dies with the thread that started it: `start`, or else the first `decode`.
    """

    def __init__(self, limits: DecodeLimits | None = None) -> None:
        self.limits = limits or DecodeLimits()
        self._owner = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._room: mmap.mmap | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, None before the first image and after a child's death."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start the child ahead of the first image; does nothing while one is running.

        Raises OSError when there can be none.
        """
        if self._child and self._owner == os.getpid() and self._child.poll() is None:
            return
        self.close()
        room = _shared_memory(3 * self.limits.max_pixels)
        limits = (self.limits.memory_bytes, self.limits.cpu_seconds, self.limits.max_pixels)
        ours, theirs = socket.socketpair()
        with theirs, os.fdopen(room):
            self._room = mmap.mmap(room, 3 * self.limits.max_pixels)
            self._child = subprocess.Popen(
                [sys.executable, "-B", "-m", "pipeline.decode_child", *map(str, (os.getpid(), room, *limits))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(room,),
                cwd=ROOT,
                env=ENVIRONMENT,  # none of the parent's secrets
                start_new_session=True,  # a terminal's Ctrl-C is for the parent
            )
        self._line = ours
        self._owner = os.getpid()
        try:
            filtered = self._read_exactly(1, time.monotonic() + START_SECONDS)[0]
        except (OSError, EOFError) as error:
            self.close()
            raise OSError(f"the decoder does not start: {error}") from error
        if not filtered:
            log.warning("decoding without a filter for system calls, which this machine has not: see docs/decoding.md")

    def close(self) -> None:
        """End the child. The next image would start another."""
        child, line = self._child, self._line
        self._child = self._line = self._room = None
        if line:
            line.close()
        if child and self._owner == os.getpid():  # after a fork the child is still the parent process's
            child.kill()
            child.wait()

    def decode(self, content: bytes, least: int = 0) -> Decoded:
        """The upright RGB pixels of an image. Raises ImageError with any of the codes of ErrorCode.

        A JPEG is decoded as small as leaves its longest side at least `least` pixels; 0: all images in full.
        """
        return self.read(content, lambda seen: replace(seen, pixels=seen.pixels.copy()), least)

    def read(self, content: bytes, reader: Callable[[Decoded], T], least: int = 0) -> T:
        """Decode as `decode` does; what `reader` makes of the image, whose pixels are another one's soon after.

        They lie in memory that the child can write to: `reader` has to copy what it looks at. Raises ImageError.
        """
        name = sniff(content)
        if len(content) > self.limits.max_bytes:
            detail = f"{len(content)} bytes are more than the limit of {self.limits.max_bytes}"
            raise ImageError(ErrorCode.TOO_LARGE, detail)
        self.start()
        try:
            outcome, width, height, shrink = self._ask(name, least, content)
        except TimeoutError as error:
            self.close()
            detail = f"decoding took more than {self.limits.seconds:g} s"
            raise ImageError(ErrorCode.DECODE_TIMEOUT, detail) from error
        except (ConnectionError, EOFError) as error:
            raise self._bury() from error
        except BaseException:
            self.close()  # an answer half read would be taken for the next image's
            raise
        if outcome == "decoded":
            return self._read(Decoded(self._pixels(width, height, shrink), name, width, height, shrink), reader)
        code = ErrorCode(outcome)
        facts = {"format": name, "width": width, "height": height, "limits": self.limits}
        raise ImageError(code, DETAILS[code].format(**facts))

    def _pixels(self, width: int, height: int, shrink: int) -> Pixels:
        """What the child has decoded, where it lies: uint8 [H, W, 3]."""
        assert self._room is not None  # noqa: S101 - start() has made it
        columns, rows = shrunk(width, height, shrink)
        pixels = np.frombuffer(self._room, np.uint8, 3 * columns * rows).reshape(rows, columns, 3)
        pixels.setflags(write=False)
        return pixels

    def _read(self, seen: Decoded, reader: Callable[[Decoded], T]) -> T:
        try:
            return reader(seen)
        finally:
            if seen.pixels.size > KEPT_BYTES and sys.platform == "linux" and self._room:
                self._room.madvise(mmap.MADV_REMOVE)

    def _ask(self, name: str, least: int, content: bytes) -> tuple[str, int, int, int]:
        """Send one image; the outcome, its width and height, and how many times smaller it lies in the shared memory.

        Raises TimeoutError, ConnectionError, EOFError.
        """
        assert self._line is not None  # noqa: S101 - start() has just made it
        deadline = time.monotonic() + self.limits.seconds
        self._line.settimeout(self.limits.seconds)
        self._line.sendall(REQUEST.pack(name.encode(), least, len(content)) + content)
        index, width, height, shrink = ANSWER.unpack(self._read_exactly(ANSWER.size, deadline))
        if index >= len(OUTCOMES):
            raise EOFError("the answer is none")
        outcome = OUTCOMES[index]
        if outcome == "decoded" and not 0 < width * height <= self.limits.max_pixels:
            raise EOFError("the answer is of a size that was not asked for")
        if shrink not in SHRINKS:
            raise EOFError("the answer shrinks as nobody can")
        return outcome, width, height, shrink

    def _read_exactly(self, length: int, deadline: float) -> bytes:
        assert self._line is not None  # noqa: S101 - start() has made it
        content = b""
        while len(content) < length:
            self._line.settimeout(max(deadline - time.monotonic(), 1e-3))
            part = self._line.recv(length - len(content))
            if not part:
                raise EOFError("the child has gone")
            content += part
        return content

    def _bury(self) -> ImageError:
        """End a child that stopped answering, and say how it died."""
        child = self._child
        try:
            ended_by = -child.wait(timeout=1) if child else 0
        except subprocess.TimeoutExpired:
            ended_by = 0
        self.close()
        if ended_by == signal.SIGXCPU:
            detail = f"decoding took more than {self.limits.cpu_seconds} s of processor time"
            return ImageError(ErrorCode.DECODE_TIMEOUT, detail)
        how = signal.Signals(ended_by).name if ended_by > 0 else "an error"
        return ImageError(ErrorCode.DECODER_CRASHED, f"the decoder was ended by {how} while it had this image")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shared_memory(size: int) -> int:
    """A descriptor of `size` bytes, of which those that are written take memory.

    On Linux it cannot be made shorter: reading what a child has cut off would kill this process.
    """
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    descriptor = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
