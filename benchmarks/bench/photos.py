"""The photos that are measured on: real faces and real scenes, put together with a seed, made once into var/bench.

No folder of photos has every size and every number of faces, so each is composed: a mosaic of places of street scenes
(face_boxes) where nobody has boxed a face, at their own grain, with portraits (LFW) pasted into cells of a grid. They
are for measuring speed; how well faces are found is measured on photos that nobody has touched.
"""

import csv
import io
import math
import os
import random
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.bench.contender import CACHE, ROOT

SIZES: Final = {"512 px": (512, 384), "1080p": (1920, 1080), "12 MP": (4000, 3000)}
FACES: Final = (0, 1, 5, 20)
MADE = 12  # photos of each kind
QUALITY = 88
SEED = 9
VERSION = "1"  # of what is made: another one is made anew

PORTRAIT: Final = (35, 25, 215, 225)  # of LFW's 250 px: without the black corners of most
BOX_SIDE = 0.62  # of the pasted portrait's width that a face takes
LEAST = 44  # pixels of a face
PATCH = 96  # pixels: least side of a place without faces
EDGE = 0.08  # of a portrait's side over which it fades into the mosaic


class NoDataError(Exception):
    """SHIELD_DATA names no folder with the photos that the benchmark is composed of."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Photos of one size with one number of faces."""

    size: str
    faces: int

    @property
    def name(self) -> str:
        """As a table has it."""
        return f"{self.size}, {self.faces} {'face' if self.faces == 1 else 'faces'}"


KINDS: Final = tuple(Kind(size, faces) for size in SIZES for faces in FACES)
BAR_KIND: Final = Kind("1080p", 1)


def data_folder() -> Path:
    """Where the data lies. Raises NoDataError."""
    folder = Path(os.environ.get("SHIELD_DATA", ROOT.parent / "shared" / "data"))
    missing = [name for name in ("lfw_250.zip", "face_boxes.zip", "face_boxes.csv") if not (folder / name).is_file()]
    if missing:
        raise NoDataError(f"{folder} has no {', '.join(missing)}: set SHIELD_DATA to the data folder")
    return folder


def boxes_by_photo() -> dict[str, list[tuple[float, ...]]]:
    """The annotated faces of each photo of face_boxes: left, top, right, bottom in its pixels."""
    boxes: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    with (data_folder() / "face_boxes.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            boxes[row["file"]].append(tuple(float(row[edge]) for edge in ("xmin", "ymin", "xmax", "ymax")))
    return boxes


def photos_of(kind: Kind) -> list[Path]:
    """The photos of this kind, made where they are not there yet. Raises NoDataError."""
    folder = CACHE / f"photos-{VERSION}" / f"{kind.size}-{kind.faces}".replace(" ", "")
    paths = [folder / f"{number:02}.jpg" for number in range(MADE)]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        for path, photo in zip(paths, _composed(kind), strict=True):
            photo.save(path.with_suffix(".part"), "JPEG", quality=QUALITY)
            path.with_suffix(".part").replace(path)
    return paths


def stamped(content: bytes, text: str) -> bytes:
    """The same JPEG with a comment in it: other bytes, so that no cache knows it."""
    comment = text.encode()
    return content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]


def _composed(kind: Kind) -> Iterator[Image.Image]:
    draw = random.Random(f"{SEED} {kind.name}")
    places = _places(draw)
    with zipfile.ZipFile(data_folder() / "lfw_250.zip") as portraits:
        names = sorted(name for name in portraits.namelist() if name.endswith(".jpg"))
        for _ in range(MADE):
            photo = _mosaic(places, SIZES[kind.size], draw)
            for cell in _cells(photo.size, kind.faces, draw):
                with Image.open(io.BytesIO(portraits.read(draw.choice(names)))) as portrait:
                    _paste(photo, portrait.convert("RGB").crop(PORTRAIT), cell, draw)
            yield photo


def _places(draw: random.Random) -> list[Image.Image]:
    """Parts of street scenes without a boxed face in or near them."""
    boxes = boxes_by_photo()
    found = []
    with zipfile.ZipFile(data_folder() / "face_boxes.zip") as scenes:
        for name in draw.sample(sorted(boxes), 80):
            with Image.open(io.BytesIO(scenes.read(name))) as scene:
                whole = scene.convert("RGB")
            lowest = max(2 * bottom - top for _, top, _, bottom in boxes[name])  # a head's height below all faces
            if whole.height - lowest >= PATCH and whole.width >= PATCH:
                found.append(whole.crop((0, math.ceil(lowest), whole.width, whole.height)))
    return found


def _mosaic(places: list[Image.Image], size: tuple[int, int], draw: random.Random) -> Image.Image:
    """A canvas filled with places; on larger ones they are enlarged, as a larger sensor would see them."""
    canvas = Image.new("RGB", size)
    zoom = max(1.0, size[0] / 1920)
    top = 0
    while top < size[1]:
        left, row = 0, round(draw.uniform(1.0, 1.8) * PATCH * zoom)
        while left < size[0]:
            place = draw.choice(places)
            factor = max(zoom, row / place.height)
            tile = place.resize((round(place.width * factor), round(place.height * factor)), Image.Resampling.BICUBIC)
            canvas.paste(tile.crop((0, 0, tile.width, row)), (left, top))
            left += tile.width
        top += row
    grain = 2 * np.random.default_rng(draw.randrange(2**32)).standard_normal((size[1], size[0], 1), np.float32)
    return Image.fromarray(np.clip(np.asarray(canvas) + grain, 0, 255).astype(np.uint8))


def _cells(size: tuple[int, int], faces: int, draw: random.Random) -> list[tuple[int, int, int, int]]:
    """So many cells of a grid over the canvas: left, top, width, height."""
    if not faces:
        return []
    columns = math.ceil(math.sqrt(faces * size[0] / size[1]))
    rows = math.ceil(faces / columns)
    width, height = size[0] // columns, size[1] // rows
    cells = [(column * width, row * height, width, height) for row in range(rows) for column in range(columns)]
    return draw.sample(cells, faces)


def _paste(photo: Image.Image, portrait: Image.Image, cell: tuple[int, int, int, int], draw: random.Random) -> None:
    left, top, width, height = cell
    ratio = portrait.height / portrait.width
    most = min(width, height / ratio, 0.5 * min(photo.size))
    least = min(most, max(LEAST / BOX_SIDE, 0.4 * most))
    side = draw.uniform(least, most)
    tile = portrait.resize((round(side), round(side * ratio)), Image.Resampling.BICUBIC)
    fade = max(1, round(EDGE * side))
    mask = Image.new("L", tile.size, 0)
    mask.paste(255, (fade, fade, tile.width - fade, tile.height - fade))
    where = (left + round(draw.uniform(0, width - tile.width)), top + round(draw.uniform(0, height - tile.height)))
    photo.paste(tile, where, mask.filter(ImageFilter.GaussianBlur(fade / 2)))
