"""Guarded decoding: bytes that anybody may have sent become 8-bit RGB pixels, or an ImageError with a stable code.

What the first bytes tell is checked here; decoding itself happens in a child process (`pipeline.decode_child`) that has
an empty environment and hard limits on memory, CPU time, files and descriptors. A picture that kills the child costs
its own scan and nothing else: the next one gets a new child.
"""

import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from pipeline.results import ErrorCode

Pixels = npt.NDArray[np.uint8]

ROOT: Final = Path(__file__).resolve().parent.parent
LENGTH: Final = struct.Struct(">Q")
LARGE_BYTES: Final = 50_000_000  # decoded: about 17 million pixels

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
HEIF_BRANDS: Final = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")


class ImageError(Exception):
    """An image that cannot be decoded: `code` is stable, `detail` is a sentence for people."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one decode may cost. `seconds` is wall-clock time, `cpu_seconds` the child's processor time."""

    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    seconds: float = 20.0
    cpu_seconds: int = 15
    memory_bytes: int = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Decoded:
    """Upright RGB pixels, uint8 [H, W, 3], and the format they came in."""

    pixels: Pixels
    format: str


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
    """One child process that decodes images, one after the other. Not for use by two threads at once."""

    def __init__(self, limits: DecodeLimits | None = None) -> None:
        self.limits = limits or DecodeLimits()
        self._owner = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, None before the first image and after a child's death."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start the child ahead of the first image; does nothing while one is running."""
        if self._child and self._owner == os.getpid() and self._child.poll() is None:
            return
        self.close()
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "pipeline.decode_child", json.dumps(asdict(self.limits))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                env={"PYTHONDONTWRITEBYTECODE": "1"},  # none of the parent's secrets
            )
        self._line = ours
        self._owner = os.getpid()

    def close(self) -> None:
        """End the child. The next image would start another."""
        child, line = self._child, self._line
        self._child = self._line = None
        if line:
            line.close()
        if child and self._owner == os.getpid():  # after a fork the child is still the parent process's
            child.kill()
            child.wait()

    def decode(self, content: bytes) -> Decoded:
        """The upright RGB pixels of an image. Raises ImageError with any of the codes of ErrorCode."""
        name = sniff(content)
        if len(content) > self.limits.max_bytes:
            detail = f"{len(content)} bytes are more than the limit of {self.limits.max_bytes}"
            raise ImageError(ErrorCode.TOO_LARGE, detail)
        self.start()
        try:
            head, body = self._ask(name, content)
        except TimeoutError as error:
            self.close()
            detail = f"decoding took more than {self.limits.seconds:g} s"
            raise ImageError(ErrorCode.DECODE_TIMEOUT, detail) from error
        except (OSError, EOFError) as error:
            raise self._bury() from error
        except BaseException:
            self.close()  # an answer half read would be taken for the next image's
            raise
        if "code" in head:
            raise ImageError(ErrorCode(head["code"]), head["detail"])
        if len(body) > LARGE_BYTES:
            self.close()  # the child would keep what this image took; the next one starts another
        return Decoded(np.frombuffer(body, np.uint8).reshape(head["height"], head["width"], 3), name)

    def _ask(self, name: str, content: bytes) -> tuple[dict[str, Any], bytearray]:
        """Send one image, read one answer: each is a JSON head and a body, both behind their length in 8 bytes."""
        assert self._line is not None  # noqa: S101 - start() has just made it
        deadline = time.monotonic() + self.limits.seconds
        head = json.dumps({"format": name}).encode()
        for part in (LENGTH.pack(len(head)), head, LENGTH.pack(len(content)), content):
            self._line.settimeout(max(deadline - time.monotonic(), 1e-3))
            self._line.sendall(part)
        answer = json.loads(self._read(deadline))
        return answer, self._read(deadline)

    def _read(self, deadline: float) -> bytearray:
        (length,) = LENGTH.unpack(self._read_exactly(LENGTH.size, deadline))
        # The child is the process that hostile bytes might take over: believe nothing beyond what is possible.
        if length > 3 * self.limits.max_pixels + 2**16:
            raise EOFError("the answer is longer than any image")
        return self._read_exactly(length, deadline)

    def _read_exactly(self, length: int, deadline: float) -> bytearray:
        assert self._line is not None  # noqa: S101 - start() has made it
        content = bytearray(length)
        rest = memoryview(content)
        while rest:
            self._line.settimeout(max(deadline - time.monotonic(), 1e-3))
            count = self._line.recv_into(rest)
            if not count:
                raise EOFError("the child has gone")
            rest = rest[count:]
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


class DecoderPool:
    """Several decoders at work side by side; what comes out keeps the order of what went in."""

    def __init__(self, size: int, limits: DecodeLimits | None = None) -> None:
        self._size = size
        self._decoders = [Decoder(limits) for _ in range(size)]
        self._idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)

    def decode_all(self, contents: Iterable[bytes]) -> Iterator[Decoded | ImageError]:
        """One answer for each image, in order; no more than the pool's size are decoded ahead of the reader."""
        ahead: deque[Future[Decoded | ImageError]] = deque()
        with ThreadPoolExecutor(self._size, thread_name_prefix="decode") as threads:
            for content in contents:
                if len(ahead) >= self._size:
                    yield ahead.popleft().result()
                ahead.append(threads.submit(self._decode, content))
            while ahead:
                yield ahead.popleft().result()

    def _decode(self, content: bytes) -> Decoded | ImageError:
        decoder = self._idle.get()
        try:
            return decoder.decode(content)
        except ImageError as error:
            return error
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """End all children."""
        for decoder in self._decoders:
            decoder.close()
