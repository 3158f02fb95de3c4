"""Fakes made from real faces alone: a face blended with an altered copy of itself.

The idea is that of self-blended images (Shiohara and Yamasaki, CVPR 2022, arXiv:2204.08376), written afresh: what a
face swap leaves behind is a seam between two pictures that differ a little in colour, sharpness and geometry. A network
that learns the seam from a picture blended with itself cannot learn who is in it or which generator made it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data import Pixels

Floats = NDArray[np.float32]  # [H, W] or [H, W, 3]

# Outline of a face in a face crop, as fractions of its side: brows, cheeks, jaw, chin.
FACE_OUTLINE = np.array(
    [
        (0.22, 0.36), (0.34, 0.26), (0.50, 0.24), (0.66, 0.26), (0.78, 0.36), (0.82, 0.52),
        (0.76, 0.70), (0.65, 0.83), (0.50, 0.89), (0.35, 0.83), (0.24, 0.70), (0.18, 0.52),
    ]
)  # fmt: skip
INNER_OUTLINE = np.array(
    [(0.26, 0.38), (0.50, 0.34), (0.74, 0.38), (0.72, 0.58), (0.62, 0.78), (0.38, 0.78), (0.28, 0.58)]
)


def self_blend(face: Pixels, rng: np.random.Generator) -> Pixels:
    """A fake of the same size as `face` [H, W, 3] uint8 RGB: an altered copy blended in under a soft face mask.

    Either side of the blend may be the altered one, so that neither "the inside is odd" nor "the outside is odd" is
    enough to tell.
    """
    height, width = face.shape[:2]
    altered, plain = _altered(face, rng), face.astype(np.float32)
    inner, outer = (altered, plain) if rng.random() < 0.5 else (plain, altered)
    inner = _shifted(inner, rng)
    mask = _mask(height, width, rng)[..., None] * rng.choice([0.5, 0.75, 1.0, 1.0, 1.0])
    return np.clip(inner * mask + outer * (1.0 - mask), 0, 255).astype(np.uint8)


def _mask(height: int, width: int, rng: np.random.Generator) -> Floats:
    """A soft mask [H, W] of 0..1: a jittered face outline, bent elastically, with a random edge width."""
    outline = (FACE_OUTLINE if rng.random() < 0.7 else INNER_OUTLINE) + rng.normal(0, 0.025, 2)
    outline = (outline - 0.5) * rng.uniform(0.8, 1.15, 2) + 0.5 + rng.normal(0, 0.015, outline.shape)
    points = (outline * (width, height)).astype(np.int32)
    mask = np.zeros((height, width), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(points), (1.0,))
    grid = rng.normal(0, 0.03 * width, (2, 5, 5)).astype(np.float32)  # an elastic field on a coarse grid
    bend_x, bend_y = (cv2.resize(g, (width, height), interpolation=cv2.INTER_CUBIC) for g in grid)
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    bent = cv2.remap(mask, xs + bend_x, ys + bend_y, cv2.INTER_LINEAR)
    sigma = width * rng.uniform(0.008, 0.05)
    soft = np.asarray(cv2.GaussianBlur(bent, (0, 0), sigma), np.float32)
    peak = float(soft.max())
    return soft / peak if peak > 0 else soft


def _altered(face: Pixels, rng: np.random.Generator) -> Floats:
    """A copy with another colour and another sharpness, as a second camera or a generator would give it."""
    copy = face.astype(np.float32) * rng.uniform(0.85, 1.15, 3) + rng.uniform(-12, 12, 3)
    copy = np.clip((copy - 127.5) * rng.uniform(0.85, 1.15) + 127.5, 0, 255).astype(np.float32)
    height, width = face.shape[:2]
    kind = rng.integers(4)
    if kind == 0:  # softer: what a small generator output enlarged looks like
        scale = rng.uniform(0.3, 0.7)
        small = cv2.resize(copy, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    if kind == 1:
        return np.asarray(cv2.GaussianBlur(copy, (0, 0), rng.uniform(0.6, 2.0)), np.float32)
    if kind == 2:  # sharper
        soft = np.asarray(cv2.GaussianBlur(copy, (0, 0), 1.5), np.float32)
        return np.asarray(copy + rng.uniform(0.5, 1.5) * (copy - soft), np.float32)
    quality = int(rng.integers(30, 80))  # compressed once more than the rest
    _, encoded = cv2.imencode(".jpg", copy.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.float32)


def _shifted(picture: Floats, rng: np.random.Generator) -> Floats:
    """Moved, scaled and turned by a little: the part that no alignment gets quite right."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 1.5), rng.uniform(0.96, 1.04))
    matrix = np.asarray(matrix, np.float64) + np.array([[0, 0, 1]]) * rng.normal(0, 0.012 * width, (2, 1))
    moved = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.float32)
