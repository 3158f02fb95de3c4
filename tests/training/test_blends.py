from pathlib import Path

import cv2
import numpy as np
import pytest

from training.blends import self_blend
from training.data import Pixels, decode_rgb

PORTRAIT = Path(__file__).parents[2] / "samples" / "originals" / "collins.jpg"


@pytest.fixture
def face() -> Pixels:
    photo = decode_rgb(PORTRAIT.read_bytes(), PORTRAIT.name)
    side = min(photo.shape[:2])
    return np.asarray(cv2.resize(photo[:side, :side], (160, 160), interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize("seed", range(12))
def test_a_blend_keeps_shape_and_changes_one_side_of_the_seam_more(face: Pixels, seed: int) -> None:
    blend = self_blend(face, np.random.default_rng(seed))
    assert blend.shape == face.shape
    assert blend.dtype == np.uint8
    change = cv2.blur(np.abs(blend.astype(np.float32) - face).mean(axis=2), (9, 9))
    assert change.max() > 2.0
    assert change.max() > 2 * change.min()  # one side of the seam differs from the other


def test_a_seed_gives_the_same_blend_and_another_seed_another(face: Pixels) -> None:
    one, same, other = (self_blend(face, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
