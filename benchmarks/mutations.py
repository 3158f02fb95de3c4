"""Mutants: images damaged in the ways that find faults in decoders. A number and a seed always give the same one."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.images import ImageError, sniff

ROOT = Path(__file__).resolve().parent.parent
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
SIZES = (0, 1, 3, 255, 4096, 7071, 16383, 16384, 30_000, 65_535, 1_000_000, 2**31 - 1, 2**32 - 1)
FIELDS = (">H", "<H", ">I", "<I")
PNG = b"\x89PNG\r\n\x1a\n"
PHOTO_WEIGHT = 8  # as many photos as files of the collection, about
LONGEST = 2**20  # bytes of a mutant

Change = Callable[[random.Random, bytearray, list[bytes]], bytearray]


def seeds(collection: Path) -> list[bytes]:
    """What is mutated: real photos in every form that is decoded, and the files of a zip where it is there."""
    found = photos() * PHOTO_WEIGHT
    if collection.is_file():
        with zipfile.ZipFile(collection) as archive:
            found += [content for content in map(archive.read, archive.namelist()) if _is_decoded(content)]
    return found


def photos() -> list[bytes]:
    """Each sample photo as it is, and small in every form that is decoded."""
    found = []
    for path in sorted((ROOT / "samples").rglob("*.jpg")):
        found.append(path.read_bytes())
        with Image.open(path) as photo:
            small = photo.convert("RGB").resize((96, 96))
        alpha, grey = small.convert("RGBA"), small.convert("L")
        deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "a description"
        found += [
            _encoded(small, "JPEG", quality=90, exif=exif),
            _encoded(small, "JPEG", quality=60, progressive=True),
            _encoded(small.convert("CMYK"), "JPEG"),
            _encoded(small, "MPO", save_all=True, append_images=[small]),
            _encoded(small, "PNG", exif=exif),
            _encoded(alpha, "PNG"),
            _encoded(deep, "PNG"),
            _encoded(small.quantize(16), "PNG", bits=4),
            _encoded(small, "WEBP", quality=70, exif=exif),
            _encoded(alpha, "WEBP", lossless=True),
            _encoded(small, "WEBP", save_all=True, append_images=[small.transpose(Image.Transpose.ROTATE_90)]),
            _encoded(small, "GIF", save_all=True, append_images=[small.transpose(Image.Transpose.ROTATE_90)]),
            _encoded(small, "BMP"),
            _encoded(small.quantize(200), "BMP"),
        ]
    return found


def mutant(seed: int, number: int, given: list[bytes]) -> bytes:
    """Mutant NUMBER of a run with this SEED over these images."""
    rng = random.Random(f"{seed}:{number}")
    content = bytearray(rng.choice(given))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        content = rng.choice(CHANGES)(rng, content or bytearray(1), given)
    if content.startswith(PNG) and rng.random() < 0.8:
        content = mended(content)
    return bytes(content[:LONGEST])


def flip_bits(rng: random.Random, content: bytearray, _given: list[bytes]) -> bytearray:
    """Flip a few bits, anywhere."""
    for _ in range(rng.choice((1, 2, 8, 32))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def set_bytes(rng: random.Random, content: bytearray, _: list[bytes]) -> bytearray:
    """Overwrite a stretch with one value, or with noise."""
    start, length = _stretch(rng, content, 64)
    noise = rng.random() < 0.5
    content[start : start + length] = rng.randbytes(length) if noise else bytes([rng.choice((0, 0xFF, 0x7F))]) * length
    return content


def cut_short(rng: random.Random, content: bytearray, _: list[bytes]) -> bytearray:
    """Leave the end away."""
    return content[: rng.randrange(len(content))]


def splice(rng: random.Random, content: bytearray, given: list[bytes]) -> bytearray:
    """The beginning of one image, the end of another."""
    other = rng.choice(given)
    return content[: rng.randrange(len(content))] + other[rng.randrange(len(other)) :]


def repeat(rng: random.Random, content: bytearray, _: list[bytes]) -> bytearray:
    """A stretch many times over."""
    start, length = _stretch(rng, content, 2048)
    return content[:start] + content[start : start + length] * rng.choice((2, 3, 100)) + content[start + length :]


def drop(rng: random.Random, content: bytearray, _: list[bytes]) -> bytearray:
    """Leave a stretch out."""
    start, length = _stretch(rng, content, 2048)
    return content[:start] + content[start + length :]


def edit_header(rng: random.Random, content: bytearray, _: list[bytes]) -> bytearray:
    """Put a number from the edge of its range into the first bytes."""
    return _put(content, rng.randrange(64), rng.choice(FIELDS), rng.choice(EDGES))


def edit_field(rng: random.Random, content: bytearray, _: list[bytes]) -> bytearray:
    """The same anywhere."""
    return _put(content, rng.randrange(len(content)), rng.choice(FIELDS), rng.choice(EDGES))


def lie_about_length(rng: random.Random, content: bytearray, _: list[bytes]) -> bytearray:
    """Make one of the parts that the file says it has longer or shorter than it is."""
    at, form = rng.choice(_lengths(content) or [(4, "<I")])
    wrong = rng.choice((*EDGES, len(content), len(content) + 1, len(content) - at))
    return _put(content, at, form, wrong)


def lie_about_size(rng: random.Random, content: bytearray, _: list[bytes]) -> bytearray:
    """Announce another width or height than the pixels have."""
    at, form = rng.choice(_sides(content) or [(16, ">I")])
    return _put(content, at, form, rng.choice(SIZES))


CHANGES: tuple[Change, ...] = (
    *(flip_bits, set_bytes, cut_short, splice, repeat, drop),
    *(edit_header, edit_field, lie_about_length, lie_about_size),
)


def mended(png: bytearray) -> bytearray:
    """The PNG with the checksum of every chunk made right, so that a decoder looks further than that."""
    for at, _ in _png_chunks(png):
        length = int.from_bytes(png[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 <= len(png):
            png[end : end + 4] = struct.pack(">I", zlib.crc32(png[at + 4 : end]))
    return png


def _lengths(content: bytearray) -> list[tuple[int, str]]:
    """Where the lengths of a file's parts stand, and how they are written."""
    if content.startswith(PNG):
        return [(at, ">I") for at, _ in _png_chunks(content)]
    if content.startswith(b"RIFF"):
        parts = [
            content.find(name) for name in (b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"EXIF", b"XMP ")
        ]
        return [(4, "<I"), *((at + 4, "<I") for at in parts if at > 0)]
    if content.startswith(b"\xff\xd8"):
        return [(at + 2, ">H") for at, _ in _jpeg_segments(content)]
    if content.startswith(b"BM"):
        return [(2, "<I"), (10, "<I"), (14, "<I"), (34, "<I"), (46, "<I")]
    return []


def _sides(content: bytearray) -> list[tuple[int, str]]:
    """Where widths and heights stand."""
    if content.startswith(PNG):
        return [(16, ">I"), (20, ">I")]
    if content.startswith(b"GIF8"):
        frame = content.find(b",")
        return [(6, "<H"), (8, "<H"), (frame + 5, "<H"), (frame + 7, "<H")]
    if content.startswith(b"RIFF"):
        return [(24, "<I"), (26, "<H"), (27, "<I"), (28, "<H")]
    if content.startswith(b"\xff\xd8"):
        frames = [at for at, marker in _jpeg_segments(content) if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8)]
        return [(at + offset, ">H") for at in frames for offset in (5, 7)]
    if content.startswith(b"BM"):
        return [(18, "<I"), (22, "<I")]
    return []


def _png_chunks(content: bytearray) -> list[tuple[int, bytes]]:
    found, at = [], len(PNG)
    while at + 12 <= len(content):
        found.append((at, bytes(content[at + 4 : at + 8])))
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return found


def _jpeg_segments(content: bytearray) -> list[tuple[int, int]]:
    """(where its 0xFF stands, its marker) of each segment up to the first pixels."""
    found, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        found.append((at, content[at + 1]))
        if content[at + 1] == 0xDA:
            break
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return found


def _put(content: bytearray, at: int, form: str, number: int) -> bytearray:
    size = struct.calcsize(form)
    content[at : at + size] = struct.pack(form, number & (256**size - 1))
    return content


def _stretch(rng: random.Random, content: bytearray, longest: int) -> tuple[int, int]:
    start = rng.randrange(len(content))
    return start, min(rng.randint(1, longest), len(content) - start)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def _is_decoded(content: bytes) -> bool:
    try:
        sniff(content)
    except ImageError:
        return False
    return True
