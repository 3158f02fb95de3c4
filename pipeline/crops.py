"""Square crops, the one way in which a face is cut out, for training and for scanning alike; copies in other sizes."""

import math
from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.results import Box

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BAND_ROWS = 48  # of an image at a time become floats, which then stay in the cache


def square_crop(image: Pixels, box: Box, margin: float, size: int) -> Pixels:
    """The square around a box, uint8 [size, size, C], cut out first and then resized.

    `image` is uint8 [H, W, C]; what lies outside the image mirrors what lies inside.
    """
    return resize(cut(image, *square_around(box, margin)), size, size)


def square_around(box: Box, margin: float) -> tuple[int, int, int]:
    """Left, top and side of a box's square: the box's longer side plus `margin` of it on each side."""
    longer = max(box.width, box.height)
    side = max(1, round(longer * (1 + 2 * margin)))
    return round(box.left + box.width / 2 - side / 2), round(box.top + box.height / 2 - side / 2), side


def cut(image: Pixels, left: int, top: int, side: int) -> Pixels:
    """The square [side, side, C] at (left, top), mirrored at the image's borders where it reaches over them."""
    height, width = image.shape[:2]
    right, bottom = left + side, top + side
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    missing = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    if not any(missing):
        return inside
    padded = cv2.copyMakeBorder(np.ascontiguousarray(inside), *missing, cv2.BORDER_REFLECT_101)
    return np.asarray(padded, np.uint8)


def resize(image: Pixels, width: int, height: int) -> Pixels:
    """Resize uint8 [H, W, C]; area filtering where that shrinks, as plain interpolation would skip pixels."""
    shrinks = width * height < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=how), np.uint8)


class Sizes:
    """An image, uint8 [H, W, 3], and copies of it whose longest sides are `sides` pixels, their shapes kept.

    They are what `resize` gives. But the mean of means is the mean, as long as none of them has been rounded: so a copy
    is made of the next larger one where whole pixels of that make one of its own.
    """

    def __init__(self, image: Pixels, sides: Iterable[int]) -> None:
        self.image = image
        self._copies: dict[int, Pixels] = {}
        larger: Pixels | Floats = image
        height, width = image.shape[:2]
        for longest in sorted(sides, reverse=True):
            factor = longest / max(height, width)
            new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
            if factor >= 1 or _makes_whole(image, new_width, new_height):
                self._copies[longest] = resize(image, new_width, new_height)
                continue
            further = _makes_whole(larger, new_width, new_height)
            larger = _means(larger if further else image, new_width, new_height)
            self._copies[longest] = np.asarray(cv2.convertScaleAbs(larger), np.uint8)  # rounds as resize does

    def at(self, longest: int) -> Pixels:
        """The copy of this longest side."""
        return self._copies[longest]


def _means(picture: Pixels | Floats, width: int, height: int) -> Floats:
    """A picture [H, W, 3] shrunk by area filtering, not rounded: float32 [height, width, 3].

    It is done in bands where some rows of the picture make whole ones of the copy.
    """
    copy = np.empty((height, width, 3), np.float32)
    common = math.gcd(len(picture), height)
    rows, new_rows = len(picture) // common, height // common
    step = max(1, BAND_ROWS // rows)
    for start in range(0, common, step):
        end = min(start + step, common)
        band = picture[start * rows : end * rows].astype(np.float32, copy=False)
        cv2.resize(
            band,
            (width, (end - start) * new_rows),
            copy[start * new_rows : end * new_rows],
            interpolation=cv2.INTER_AREA,
        )
    return copy


def _makes_whole(picture: Pixels | Floats, width: int, height: int) -> bool:
    """Whether whole pixels of a picture make one of a copy."""
    return picture.shape[1] % width == picture.shape[0] % height == 0
