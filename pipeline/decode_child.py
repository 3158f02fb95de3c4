"""The child process of `pipeline.images`: decodes one image after the other, within hard limits.

It speaks over the socket that is its standard input: a JSON head and a body, each behind its length in 8 bytes. In goes
{"format"} and the file, out comes {"width", "height"} and RGB bytes, or {"code", "detail"} and nothing. Pillow alone
touches the bytes here, with one format's plugin at a time.
"""

import io
import json
import resource
import socket
import struct
import sys
import warnings
from typing import Any, Final

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

LENGTH: Final = struct.Struct(">Q")
# Imported ahead of the limits, and named so that no other plugin ever is.
PLUGINS: Final = (BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
ORIENTATION: Final = 0x0112
TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class RefusedError(Exception):
    """A (code, detail) pair for the parent; the codes are those of `pipeline.results.ErrorCode`."""


def upright_rgb(content: bytes, name: str, max_pixels: int) -> Image.Image:
    """The first frame of an image as upright 8-bit RGB; transparency lies on white.

    `name` is the format that the first bytes told. Raises RefusedError.
    """
    try:
        _refuse_size(_webp_size(content) if name == "WEBP" else (0, 0), max_pixels)
        with Image.open(io.BytesIO(content), formats=[name]) as image:
            _refuse_size(image.size, max_pixels)
            image.load()
            _refuse_size(image.size, max_pixels)  # a GIF's frame may be larger than its header said
            turn = TURNS.get(_orientation(image))
            rgb = _to_rgb(image)
            return rgb.transpose(turn) if turn is not None else rgb
    except MemoryError as error:
        raise RefusedError("too_large", "decoding needs more memory than an image may take") from error
    except RefusedError:
        raise
    except Exception as error:
        if _is_cut_short(content, name):
            raise RefusedError("truncated", f"the {name} file ends before the image does") from error
        reason = "its header makes no sense" if isinstance(error, UnidentifiedImageError) else str(error)[:200]
        raise RefusedError("decode_failed", f"the {name} file is corrupt: {reason}") from error


def _refuse_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise RefusedError("too_many_pixels", f"{width} x {height} pixels are more than the limit of {max_pixels}")


def _webp_size(content: bytes) -> tuple[int, int]:
    """Width and height as the header gives them: Pillow makes room for the whole canvas when it opens the file."""
    kind, body = content[12:16], content[20:30]
    if len(body) < 10:
        return 0, 0
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - broken EXIF of any kind does not spoil the pixels
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16-bit grey
        return image.point(lambda value: value / 256).convert("L").convert("RGB")
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, transparent).convert("RGB")
    return image.convert("RGB")


def _is_cut_short(content: bytes, name: str) -> bool:
    """Whether the container's own end is missing: tells a truncated file from a corrupt one."""
    tail = content[-64:]
    match name:
        case "JPEG":
            return b"\xff\xd9" not in tail
        case "PNG":
            return b"IEND" not in tail
        case "GIF":
            return b";" not in tail[-2:]
        case "WEBP":
            return int.from_bytes(content[4:8], "little") + 8 > len(content)
        case _:  # BMP: the file's length stands in its header
            return int.from_bytes(content[2:6], "little") > len(content)


def _read(line: socket.socket) -> bytes:
    with line.makefile("rb", buffering=0) as stream:
        (length,) = LENGTH.unpack(_read_exactly(stream, LENGTH.size))
        return bytes(_read_exactly(stream, length))


def _read_exactly(stream: Any, length: int) -> bytearray:
    content = bytearray(length)
    rest = memoryview(content)
    while rest:
        count = stream.readinto(rest)
        if not count:
            sys.exit(0)  # the parent has gone
        rest = rest[count:]
    return content


def _answer(line: socket.socket, head: dict[str, Any], body: bytes = b"") -> None:
    packed = json.dumps(head).encode()
    line.sendall(LENGTH.pack(len(packed)) + packed + LENGTH.pack(len(body)))
    line.sendall(body)


def _confine(memory_bytes: int) -> None:
    """No files, no core dumps, a ceiling on memory and descriptors: for the rest of this process's life."""
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_AS: memory_bytes,
    }
    for kind, wanted in bounds.items():
        _, hard = resource.getrlimit(kind)
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(kind, (bound, bound))
        except (ValueError, OSError):
            # macOS refuses RLIMIT_AS; there the pixel cap alone bounds memory.
            if sys.platform != "darwin" or kind != resource.RLIMIT_AS:
                raise


def _grant_processor_time(seconds: int) -> None:
    """Let this process use `seconds` more of CPU time; beyond that the kernel ends it with SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + seconds + 1, hard))


def main(limits: dict[str, Any]) -> None:
    """Answer images until the parent closes the socket."""
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # our own limit comes first, and is an error rather than a warning
    _confine(limits["memory_bytes"])
    line = socket.socket(fileno=sys.stdin.fileno())
    while True:
        head = json.loads(_read(line))
        content = _read(line)
        _grant_processor_time(limits["cpu_seconds"])
        try:
            image = upright_rgb(content, head["format"], limits["max_pixels"])
            body = image.tobytes()
        except RefusedError as error:
            code, detail = error.args
            _answer(line, {"code": code, "detail": detail})
        except MemoryError:
            _answer(line, {"code": "too_large", "detail": "decoding needs more memory than an image may take"})
        else:
            _answer(line, {"width": image.width, "height": image.height}, body)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
