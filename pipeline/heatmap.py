"""Heat maps: where in a crop its score comes from, exactly, and a picture of that to lay over the face.

The classifier's evidence has a mean that is the logit, and so has the map that is made of it here. Each of its points
has seen far more of the crop than it covers: a map says which part of the face spoke, not which pixel.
"""

import io

import cv2
import numpy as np
from PIL import Image

from pipeline.engine import Floats

FULL = 12.0  # of a logit: what is drawn as strong as can be; one point in a hundred of a forged face reaches it
OPAQUE = 0.7  # of what is drawn strongest: the face stays visible below it
FOR, AGAINST = (215, 0, 70), (0, 105, 200)  # crimson and blue, unlike any skin, which the colour-blind tell apart too


def spread(evidence: Floats, size: int) -> Floats:
    """The evidence of one crop, float32 [2, H, W], as a map [size, size] over the crop. Its mean is the logit.

    The first plane covers the crop, the second its inner part only (pipeline.classifier.FourLooks). `size` is a
    multiple of 16 H: then enlarging keeps the means, and so does the blur, which hides where the inner part ends.
    """
    edge = size // 16
    inner = size - 2 * edge
    whole, closer = (cv2.resize(p, (s, s)) for p, s in zip(evidence, (size, inner), strict=True))
    heat = whole / 2
    heat[edge:-edge, edge:-edge] += closer / 2 * (size / inner) ** 2
    return np.asarray(cv2.GaussianBlur(heat, (0, 0), edge, borderType=cv2.BORDER_REFLECT), np.float32)


def overlay(heat: Floats) -> bytes:
    """A transparent PNG of a map [S, S]: crimson where the face looks forged, blue where it does not.

    One scale for all faces, so that two pictures can be compared: what says nothing is left clear.
    """
    strength = np.clip(np.abs(heat) / FULL, 0.0, 1.0) * OPAQUE
    picture = np.where((heat > 0)[..., None], FOR, AGAINST).astype(np.uint8)
    alpha = np.round(255 * strength).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(np.dstack([picture, alpha]), "RGBA").save(content, "PNG", optimize=True)
    return content.getvalue()
