from pathlib import Path

import cv2
import numpy as np
import pytest

from training.blends import USUAL_LANDMARKS, cross_blend, self_blend
from training.data import Pixels, decode_rgb

PORTRAIT = Path(__file__).parents[2] / "samples" / "originals" / "collins.jpg"

DONOR = PORTRAIT.with_name("barkla.jpg")
LANDMARKS = tuple(x for point in USUAL_LANDMARKS for x in point)


@pytest.fixture
def face() -> Pixels:
    photo = decode_rgb(PORTRAIT.read_bytes(), PORTRAIT.name)
    side = min(photo.shape[:2])
    return np.asarray(cv2.resize(photo[:side, :side], (160, 160), interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize("seed", range(12))
def test_a_blend_keeps_shape_and_changes_one_side_of_the_seam_more(face: Pixels, seed: int) -> None:
    blend = self_blend(face, LANDMARKS, np.random.default_rng(seed))
    assert blend.shape == face.shape
    assert blend.dtype == np.uint8
    change = cv2.blur(np.abs(blend.astype(np.float32) - face).mean(axis=2), (9, 9))
    assert change.max() > 2.0
    assert change.max() > 2 * change.min()  # one side of the seam differs from the other


def test_a_seed_gives_the_same_blend_and_another_seed_another(face: Pixels) -> None:
    one, same, other = (self_blend(face, LANDMARKS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("seed", range(6))
def test_a_cross_blend_wears_the_donor_inside_and_stays_itself_outside(face: Pixels, seed: int) -> None:
    photo = decode_rgb(DONOR.read_bytes(), DONOR.name)
    donor = np.asarray(cv2.resize(photo[: photo.shape[1]], (160, 160), interpolation=cv2.INTER_AREA), np.uint8)
    blend = cross_blend(face, LANDMARKS, donor, LANDMARKS, np.random.default_rng(seed))
    change = np.abs(blend.astype(np.float32) - face).mean(axis=2)
    assert change[70:100, 70:95].mean() > 5
    corners = [
        change[rows, columns].max() for rows in (slice(8), slice(-8, None)) for columns in (slice(8), slice(-8, None))
    ]
    assert max(corners) <= 1  # background stays (1: rounding)


def test_the_mask_follows_the_landmarks(face: Pixels) -> None:
    moved = tuple(x + 0.15 * (i % 2) for i, x in enumerate(LANDMARKS))  # all points lower
    donor = np.zeros_like(face)
    centres = []
    for landmarks in (LANDMARKS, moved):
        changes = [
            np.abs(cross_blend(face, landmarks, donor, landmarks, np.random.default_rng(seed)).astype(float) - face)
            for seed in range(8)
        ]
        rows = np.mean(changes, axis=(0, 2, 3))
        centres.append(float((rows * np.arange(len(rows))).sum() / rows.sum()))
    assert centres[1] > centres[0] + 8


def test_a_donor_without_usable_landmarks_gives_a_self_blend(face: Pixels) -> None:
    blend = cross_blend(face, LANDMARKS, face, (0.5,) * 12, np.random.default_rng(0))
    assert blend.shape == face.shape
