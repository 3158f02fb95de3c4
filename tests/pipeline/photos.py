"""The sample photos, and small pictures made from them in every form that the pipeline must take."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent.parent
SAMPLES = PROJECT / "samples"
COLLINS = SAMPLES / "originals" / "collins.jpg"
HOPPER = SAMPLES / "originals" / "hopper.jpg"
GROUP = SAMPLES / "group.jpg"
LANDSCAPE = SAMPLES / "landscape.jpg"


def pixels_of(path: Path) -> npt.NDArray[np.uint8]:
    """Decode a trusted sample: uint8 [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encode a picture in memory."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def little_photo(width: int = 48, height: int = 32) -> Image.Image:
    """A piece of a real photo whose four corners differ."""
    with Image.open(LANDSCAPE) as image:
        return image.convert("RGB").resize((width, height))


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header promises a size that its data does not hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(
        _chunk(kind, body) for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
