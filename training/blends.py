"""Fakes made from real faces alone: a face blended with an altered copy of itself, or with another real face.

The idea is that of self-blended images (Shiohara and Yamasaki, CVPR 2022, arXiv:2204.08376), written afresh: what a
face swap leaves behind is a seam between two pictures that differ a little in colour, sharpness and geometry. A network
that learns the seam from a picture blended with itself cannot learn who is in it or which generator made it. A
cross-blend takes the inside from another person (the idea of Face X-ray, Li et al., CVPR 2020, arXiv:1912.13458).
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data import Pixels

Floats = NDArray[np.float32]  # [H, W] or [H, W, 3]

# Outline of a face in a face crop, as fractions of its side: brows, cheeks, jaw, chin.
FACE_OUTLINE = np.array(
    [
        (0.20, 0.26), (0.33, 0.14), (0.51, 0.11), (0.69, 0.14), (0.82, 0.26), (0.87, 0.45),
        (0.80, 0.66), (0.68, 0.81), (0.51, 0.88), (0.35, 0.81), (0.22, 0.66), (0.16, 0.45),
    ]
)  # fmt: skip
INNER_OUTLINE = np.array(
    [(0.25, 0.28), (0.51, 0.23), (0.78, 0.28), (0.76, 0.52), (0.65, 0.75), (0.38, 0.75), (0.27, 0.52)]
)
# Where BlazeFace's six points lie in a face crop on average: eyes, nose, mouth, ears (x, y as fractions of its side).
USUAL_LANDMARKS = ((0.29, 0.28), (0.69, 0.28), (0.49, 0.52), (0.49, 0.73), (0.09, 0.38), (0.91, 0.37))
ALIGNED_BY = [0, 1, 2, 3]  # BlazeFace guesses ears that hair or pose hide


def self_blend(face: Pixels, landmarks: Sequence[float], rng: np.random.Generator) -> Pixels:
    """A fake of the same size as `face` [H, W, 3] uint8 RGB: an altered copy blended in under a soft face mask.

    `landmarks` are 12 fractions (x, y of BlazeFace's points); without them the mask lies where faces usually are.
    Either side of the blend may be the altered one, so that neither "the inside is odd" nor "the outside is odd" is
    enough to tell. (A mix nearer to swaps, the inside and softer more often, is learnt sooner and finds fewer of them.)
    """
    altered, plain = _altered(face, rng), face.astype(np.float32)
    inner, outer = (altered, plain) if rng.random() < 0.5 else (plain, altered)
    inner = _shifted(inner, rng)
    mask = _mask(face.shape[0], face.shape[1], landmarks, rng)[..., None] * rng.choice([0.5, 0.75, 1.0, 1.0, 1.0])
    return np.clip(inner * mask + outer * (1.0 - mask), 0, 255).astype(np.uint8)


def cross_blend(
    face: Pixels, landmarks: Sequence[float], donor: Pixels, donor_landmarks: Sequence[float], rng: np.random.Generator
) -> Pixels:
    """A fake of the size of `face` [H, W, 3] uint8 RGB that wears the inner face of `donor`, another real face.

    The donor is moved so that eyes, nose and mouth meet (a similarity transform), its colour is brought near the
    face's by a random part of the way, then blended in under a soft mask.
    """
    height, width = face.shape[:2]
    ours, theirs = _points(landmarks, face), _points(donor_landmarks, donor)
    motion, _ = cv2.estimateAffinePartial2D(theirs[ALIGNED_BY], ours[ALIGNED_BY], method=cv2.LMEDS)
    if motion is None:  # four points on one line: a landmark guess gone wrong
        return self_blend(face, landmarks, rng)
    moved = cv2.warpAffine(donor, motion, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    mask = _mask(height, width, landmarks, rng)
    plain = face.astype(np.float32)
    inner = _nearer_in_colour(np.asarray(moved, np.float32), plain, mask > 0.5, rng.uniform(0.6, 1.0))
    if rng.random() < 0.5:
        inner = _altered(np.clip(inner, 0, 255).astype(np.uint8), rng)
    mask = mask[..., None]
    return np.clip(inner * mask + plain * (1.0 - mask), 0, 255).astype(np.uint8)


def _points(landmarks: Sequence[float], face: Pixels) -> Floats:
    """Landmarks [6, 2] in pixels of this crop."""
    points = np.array(landmarks or USUAL_LANDMARKS, np.float32).reshape(6, 2)
    return points * np.array([face.shape[1], face.shape[0]], np.float32)


def _nearer_in_colour(picture: Floats, model: Floats, where: NDArray[np.bool_], part: float) -> Floats:
    """`picture` with each channel's mean and spread moved towards those of `model`; `part` 1 is all the way."""
    if not where.any():
        return picture
    from_mean, to_mean = picture[where].mean(axis=0), model[where].mean(axis=0)
    ratio = np.clip((model[where].std(axis=0) + 1.0) / (picture[where].std(axis=0) + 1.0), 0.6, 1.6)
    matched = (picture - from_mean) * ratio + to_mean
    return np.asarray(picture + part * (matched - picture), np.float32)


def _mask(height: int, width: int, landmarks: Sequence[float], rng: np.random.Generator) -> Floats:
    """A soft mask [H, W] of 0..1: a jittered face outline, bent elastically, with a random edge width."""
    outline = (FACE_OUTLINE if rng.random() < 0.7 else INNER_OUTLINE) + rng.normal(0, 0.02, 2)
    outline = (outline - 0.5) * rng.uniform(0.8, 1.15, 2) + 0.5 + rng.normal(0, 0.015, outline.shape)
    if landmarks:
        usual, ours = np.array(USUAL_LANDMARKS), np.array(landmarks).reshape(6, 2)
        motion, _ = cv2.estimateAffinePartial2D(usual[ALIGNED_BY], ours[ALIGNED_BY], method=cv2.LMEDS)
        if motion is not None:
            outline = outline @ motion[:, :2].T + motion[:, 2]
    points = (outline * (width, height)).astype(np.int32)
    mask = np.zeros((height, width), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(points), (1.0,))
    grid = rng.normal(0, 0.03 * width, (2, 5, 5)).astype(np.float32)  # an elastic field on a coarse grid
    bend_x, bend_y = (cv2.resize(g, (width, height), interpolation=cv2.INTER_CUBIC) for g in grid)
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    bent = cv2.remap(mask, xs + bend_x, ys + bend_y, cv2.INTER_LINEAR)
    sigma = width * rng.uniform(0.004, 0.05)
    soft = np.asarray(cv2.GaussianBlur(bent, (0, 0), sigma), np.float32)
    peak = float(soft.max())
    return soft / peak if peak > 0 else soft


def _altered(face: Pixels, rng: np.random.Generator) -> Floats:
    """A copy with another colour and another sharpness, as a second camera or a generator would give it."""
    copy = face.astype(np.float32) * rng.uniform(0.9, 1.1, 3) + rng.uniform(-8, 8, 3)
    copy = np.clip((copy - 127.5) * rng.uniform(0.85, 1.15) + 127.5, 0, 255).astype(np.float32)
    height, width = face.shape[:2]
    kind = rng.integers(5)
    if kind == 0:  # softer: what a small generator output enlarged looks like
        scale = rng.uniform(0.3, 0.7)
        small = cv2.resize(copy, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    if kind == 1:
        return np.asarray(cv2.GaussianBlur(copy, (0, 0), rng.uniform(0.6, 2.0)), np.float32)
    if kind == 2:  # sharper
        soft = np.asarray(cv2.GaussianBlur(copy, (0, 0), 1.5), np.float32)
        return np.asarray(copy + rng.uniform(0.5, 1.5) * (copy - soft), np.float32)
    if kind == 3:  # another colour alone
        return copy
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
