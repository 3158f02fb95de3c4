"""The child process of `pipeline.images`: decodes one image after the other, confined.

It speaks over the socket that is its standard input, and says nothing there but numbers. First one byte: whether its
system calls are filtered. Then in goes a REQUEST and the image file; out comes an ANSWER, with upright RGB in memory
shared with the parent where it is "decoded". Pillow alone touches the bytes here, with one format's plugin at a time,
and simplejpeg those of a JPEG whose header Pillow took.
"""

import copy
import io
import mmap
import os
import socket
import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeAlias

import numpy as np
import simplejpeg
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipeline.confine import confine, grant_processor_time

REQUEST: Final = struct.Struct(">4sII")  # format, `least` (see decode), bytes of the image file
ANSWER: Final = struct.Struct(
    ">BIIB"
)  # index into OUTCOMES; width and height of the image; how many times smaller it is
OUTCOMES: Final = ("decoded", "truncated", "too_many_pixels", "too_large", "decode_failed")

# Imported ahead, for nothing can be imported once confined. MPO is a JPEG with a second picture behind it, as some
# cameras make them; the plugin for TIFF reads EXIF; that for GIF copies palettes.
PLUGINS: Final = (BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
HELPERS: Final = (copy, MpoImagePlugin, TiffImagePlugin)
STRIP_PIXELS: Final = 2**18  # turned into RGB at a time: a megabyte, which stays in the processor's cache
SHRINKS: Final = (8, 4, 2, 1)  # how many times smaller libjpeg decodes a photo at little cost, most first

Cells: TypeAlias = np.ndarray[Any, np.dtype[np.void]]  # [H, W]: the three bytes of a pixel move as one
ORIENTATION: Final = 0x0112
TURNS: Final[dict[int, Callable[[Cells], Cells]]] = {
    2: lambda cells: cells[:, ::-1],
    3: lambda cells: cells[::-1, ::-1],
    4: lambda cells: cells[::-1],
    5: lambda cells: cells.T,
    6: lambda cells: cells.T[:, ::-1],
    7: lambda cells: cells.T[::-1, ::-1],
    8: lambda cells: cells.T[::-1],
}
SIDEWAYS: Final = range(5, 9)


class RefusedError(Exception):
    """One of OUTCOMES but the first, and the width and height that a header announced, where they are the reason."""

    def __init__(self, outcome: str, width: int = 0, height: int = 0) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.size = (width, height)


def decode(content: bytes | bytearray, name: str, least: int, max_pixels: int, room: mmap.mmap) -> tuple[int, int, int]:
    """Decode the first frame of an image as upright 8-bit RGB into `room`: its width, its height, the shrink.

    `name` is the format that the first bytes told; `room` holds `max_pixels`. Transparency lies on white. What lies in
    `room` is 1, 2, 4 or 8 times smaller than the image, its sides rounded up: a JPEG is decoded as small as leaves the
    longest side at least `least` pixels, in full where that is 0, and so is every other format. Raises RefusedError.
    """
    try:
        _refuse_size(_webp_size(content) if name == "WEBP" else (0, 0), max_pixels)
        with Image.open(io.BytesIO(content), formats=[name]) as image:
            _refuse_size(image.size, max_pixels)
            shrink = _write_jpeg(content, image, least, room) if name == "JPEG" else 0
            if not shrink:
                shrink = 1
                image.load()
                _refuse_size(image.size, max_pixels)  # a GIF's frame may be larger than its header said
                _write_rgb(image, room)
            width, height = image.size
            orientation = _orientation(image)
            if orientation in TURNS:
                _turn(room, *shrunk(width, height, shrink), TURNS[orientation])
            return (height, width, shrink) if orientation in SIDEWAYS else (width, height, shrink)
    except MemoryError as error:
        raise RefusedError("too_large") from error
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError("truncated" if _is_cut_short(content, name) else "decode_failed") from error


def shrunk(width: int, height: int, shrink: int) -> tuple[int, int]:
    """Width and height of an image decoded so many times smaller."""
    return -(-width // shrink), -(-height // shrink)


def _refuse_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise RefusedError("too_many_pixels", width, height)


def _webp_size(content: bytes | bytearray) -> tuple[int, int]:
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


def _write_jpeg(content: bytes | bytearray, image: Image.Image, least: int, room: mmap.mmap) -> int:
    """Fill `room` with a JPEG's pixels, not turned; how many times smaller they are, 0 where that is left to Pillow.

    Pillow keeps four bytes a pixel, of which three are then copied; this decoder writes the three where they belong.
    It is strict, and for sound files alone: Pillow tells what may be overlooked in the others, and knows CMYK.
    """
    if image.mode not in ("RGB", "L"):
        return 0
    shrink = next(shrink for shrink in SHRINKS if max(image.size) >= shrink * least > 0 or shrink == 1)
    width, height = shrunk(*image.size, shrink)
    place = memoryview(room)[: 3 * width * height]
    try:
        pixels = simplejpeg.decode_jpeg(
            content, "RGB", min_height=height, min_width=width, min_factor=shrink, buffer=place
        )
    except ValueError:
        return 0
    return shrink if pixels.shape == (height, width, 3) else 0


def _turn(room: mmap.mmap, width: int, height: int, turn: Callable[[Cells], Cells]) -> None:
    """Turn the pixels in `room`, `width` x `height` of them before."""
    cells = np.frombuffer(room, "V3", width * height)
    turned = turn(cells.reshape(height, width).copy())
    cells.reshape(turned.shape)[:] = turned


def _write_rgb(image: Image.Image, room: mmap.mmap) -> None:
    """Fill `room` with the image's pixels as RGB bytes, in strips, so that no second whole image is ever held."""
    room.seek(0)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        room.write(_to_rgb(strip).tobytes())


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16-bit grey
        return image.point(lambda value: value / 256).convert("L").convert("RGB")
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, transparent).convert("RGB")
    return image.convert("RGB")


def _is_cut_short(content: bytes | bytearray, name: str) -> bool:
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


def _receive(line: socket.socket) -> tuple[str, int, bytearray]:
    """The format, `least` and the image file of the next request."""
    head = line.recv(REQUEST.size, socket.MSG_WAITALL)
    if len(head) < REQUEST.size:
        sys.exit(0)  # the parent has gone
    name, least, length = REQUEST.unpack(head)
    content = bytearray(length)
    rest = memoryview(content)
    while rest:
        count = line.recv_into(rest)
        if not count:
            sys.exit(0)
        rest = rest[count:]
    return name.rstrip(b"\0").decode(), least, content


def main(parent: int, shared: int, memory_bytes: int, cpu_seconds: int, max_pixels: int) -> NoReturn:
    """Answer images until the parent closes the socket. `shared` is a descriptor with room for `max_pixels`."""
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # our own limit comes first, and is an error rather than a warning
    Image.preinit()
    room = mmap.mmap(shared, 3 * max_pixels)
    os.close(shared)
    line = socket.socket(fileno=sys.stdin.fileno())
    line.sendall(bytes([confine(parent, memory_bytes)]))
    while True:
        name, least, content = _receive(line)
        grant_processor_time(cpu_seconds)
        try:
            outcome, facts = "decoded", decode(content, name, least, max_pixels, room)
        except RefusedError as error:
            outcome, facts = error.outcome, (*error.size, 1)
        line.sendall(ANSWER.pack(OUTCOMES.index(outcome), *facts))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
