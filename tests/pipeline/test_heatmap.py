"""The heat map adds up to the logit, and says the same in every picture."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.heatmap import AGAINST, FOR, FULL, OPAQUE, overlay, spread

SIZE = 192


def drawn(heat: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(overlay(heat))) as image:
        assert (image.format, image.mode) == ("PNG", "RGBA")
        return np.asarray(image)


@pytest.mark.parametrize("size", [64, 160, 192, 224])
def test_the_mean_of_a_map_is_the_logit(size: int) -> None:
    evidence = np.random.default_rng(size).normal(size=(2, size // 32, size // 32)).astype(np.float32) * 10
    heat = spread(evidence, size)
    assert heat.shape == (size, size)
    assert heat.mean() == pytest.approx(evidence.mean(), abs=1e-4)


def test_heat_lies_where_the_evidence_is_and_the_closer_look_covers_the_inner_part() -> None:
    evidence = np.zeros((2, 6, 6), np.float32)
    evidence[0, 0, 5] = 20.0
    row, column = np.unravel_index(spread(evidence, SIZE).argmax(), (SIZE, SIZE))
    assert (int(row), int(column)) == (0, SIZE - 1)
    closer = np.zeros((2, 6, 6), np.float32)
    closer[1, 0, 5] = 20.0
    row, column = np.unravel_index(spread(closer, SIZE).argmax(), (SIZE, SIZE))
    assert SIZE // 16 <= row < SIZE // 4
    assert 3 * SIZE // 4 < column <= SIZE - SIZE // 16


def test_no_edge_shows_where_the_closer_look_ends() -> None:
    heat = spread(np.full((2, 6, 6), FULL, np.float32), SIZE)
    steps = max(np.abs(np.diff(heat, axis=axis)).max() for axis in (0, 1))
    assert steps < FULL / 40


def test_what_speaks_for_a_forgery_and_against_it_differ_in_colour_and_nothing_stays_clear() -> None:
    heat = np.zeros((SIZE, SIZE), np.float32)
    heat[0], heat[1], heat[2] = FULL, -FULL / 2, 100 * FULL
    picture = drawn(heat)
    assert tuple(picture[0, 0]) == (*FOR, round(255 * OPAQUE))
    assert tuple(picture[1, 0]) == (*AGAINST, round(255 * OPAQUE / 2))
    assert picture[2, 0, 3] == picture[0, 0, 3]
    assert picture[3:, :, 3].max() == 0
