"""Broken, hostile and merely odd pictures, made on the fly from a portrait, and what is to become of each."""

import io
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image


class Fate(NamedTuple):
    """What becomes of a picture: failed with a code, or done with so many faces in an upright image of this size."""

    code: str | None = None
    faces: int = 0
    size: tuple[int, int] | None = None


def write(folder: Path, portrait: Path) -> dict[str, Fate]:
    """Write the pictures; what is to become of each, by its name. The portrait holds one face."""
    with Image.open(portrait) as image:
        upright = image.convert("RGB")
    whole = portrait.read_bytes()
    width, height = upright.size
    found = Fate(faces=1, size=(width, height))
    pictures = {
        "words.jpg": (b"these are words, not pixels\n", Fate("not_an_image")),
        "empty.png": (b"", Fate("empty")),
        "cut.jpg": (whole[: len(whole) // 2], Fate("truncated")),
        "bomb.png": (png_header(60_000, 60_000), Fate("too_many_pixels")),
        "photo.tif": (encoded(upright, "TIFF"), Fate("unsupported_format")),
        "moving.gif": (animated(upright), found),
        "print.jpg": (encoded(upright.convert("CMYK"), "JPEG"), found),
        "deep.png": (deep(upright), found),
        "lying.jpg": (lying(upright), found),
        "misnamed.txt": (whole, found),
    }
    folder.mkdir()
    for name, (content, _) in pictures.items():
        (folder / name).write_bytes(content)
    return {name: fate for name, (_, fate) in pictures.items()}


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def animated(image: Image.Image) -> bytes:
    """Two frames: the portrait, and then an empty one that must not be looked at."""
    file = io.BytesIO()
    image.save(file, "GIF", save_all=True, append_images=[Image.new("RGB", image.size)], duration=100)
    return file.getvalue()


def deep(image: Image.Image) -> bytes:
    """16 bits a channel."""
    pixels = np.asarray(image)[:, :, ::-1].astype(np.uint16) * 257
    done, content = cv2.imencode(".png", pixels)
    assert done
    return content.tobytes()


def lying(image: Image.Image) -> bytes:
    """On its side, with the EXIF orientation that puts it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
