"""Square crops: the one way in which a face is cut out of its image, for training and for scanning alike."""

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.results import Box

Pixels = npt.NDArray[np.uint8]


def square_crop(image: Pixels, box: Box, margin: float, size: int) -> Pixels:
    """The square around a box, uint8 [size, size, C], cut at full resolution and then resized.

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
