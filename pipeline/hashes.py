"""Perceptual hashes: 64 bits that stay nearly the same when a picture is resized or compressed.

The DCT hash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010): the signs of the
lowest frequencies of a small grey picture against their median.
"""

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
SIDE = 32  # pixels of the grey picture
KEPT = 8  # frequencies each way


def perceptual_hash(image: Pixels) -> int:
    """The hash of an RGB picture uint8 [H, W, 3] as an unsigned integer of 64 bits."""
    grey = cv2.cvtColor(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    low = cv2.dct(grey.astype(np.float32))[:KEPT, :KEPT].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness, which says nothing of the picture
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distance(one: int, other: int) -> int:
    """How many of the 64 bits differ."""
    return (one ^ other).bit_count()
