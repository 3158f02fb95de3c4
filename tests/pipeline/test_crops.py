"""Square crops: where they are cut, and what they show beyond an image's border."""

import numpy as np
import pytest

from pipeline.crops import Pixels, Sizes, resize, square_crop
from pipeline.results import Box
from tests.pipeline.photos import little_photo


def numbered(height: int, width: int) -> Pixels:
    """An image whose red value is its column and green value its row."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.asarray(np.stack([columns, rows, np.zeros_like(rows)], axis=-1), np.uint8)


def test_a_crop_inside_is_exactly_those_pixels() -> None:
    crop = square_crop(numbered(100, 120), Box(30, 20, 40, 40), margin=0.0, size=40)
    assert np.array_equal(crop, numbered(100, 120)[20:60, 30:70])


def test_the_margin_counts_in_longer_sides_on_each_side() -> None:
    crop = square_crop(numbered(200, 200), Box(90, 80, 20, 40), margin=0.5, size=80)
    assert crop[0, 0, :2].tolist() == [60, 60]
    assert crop[-1, -1, :2].tolist() == [139, 139]


def test_beyond_the_border_the_image_is_mirrored() -> None:
    crop = square_crop(numbered(100, 100), Box(-10, 0, 40, 40), margin=0.0, size=40)
    assert crop[0, 10:14, 0].tolist() == [0, 1, 2, 3]
    assert crop[0, 6:10, 0].tolist() == [4, 3, 2, 1]


@pytest.mark.parametrize(
    "box", [Box(-30, -30, 40, 40), Box(90, 90, 40, 40), Box(0, 0, 100, 100), Box(-500, 20, 1100, 60)]
)
def test_a_crop_over_any_edge_has_its_full_size(box: Box) -> None:
    crop = square_crop(numbered(100, 100), box, margin=0.4, size=64)
    assert crop.shape == (64, 64, 3)
    assert crop.dtype == np.uint8


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2)])
def test_the_smallest_images_give_crops(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    crop = square_crop(image, Box(0, 0, shape[1], shape[0]), margin=0.3, size=32)
    assert (crop == 77).all()


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (np.abs(square_crop(stripes, Box(0, 0, 320, 320), margin=0.0, size=32).astype(int) - 100) <= 1).all()


def test_the_same_numbers_come_from_an_image_that_is_a_view_of_a_larger_one() -> None:
    large = numbered(120, 120)
    window = large[10:110, 10:110]
    box = Box(5, 5, 60, 60)
    assert np.array_equal(square_crop(window, box, 0.2, 48), square_crop(window.copy(), box, 0.2, 48))


SHAPES = [(1080, 1920), (1500, 2000), (1333, 2000), (2048, 1536), (600, 800), (427, 640), (97, 1111), (1537, 1551)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_smaller_copy_is_the_image_resized_whichever_others_are_made(shape: tuple[int, int]) -> None:
    image = np.asarray(little_photo(shape[1], shape[0]))
    sizes = Sizes(image, (256, 1024, 512))
    for longest in (1024, 512, 256):
        factor = longest / max(shape)
        expected = resize(image, round(shape[1] * factor), round(shape[0] * factor)).astype(int)
        differs = np.abs(sizes.at(longest) - expected)
        assert differs.max() <= 1  # where a mean lies between two numbers, both round it
        assert differs.mean() < 1e-3


def test_copies_keep_their_shape_and_leave_the_image_alone() -> None:
    sizes = Sizes(numbered(100, 200), (50, 200, 400))
    assert [sizes.at(longest).shape for longest in (50, 200, 400)] == [(25, 50, 3), (100, 200, 3), (200, 400, 3)]
    assert np.array_equal(sizes.image, numbered(100, 200))
    assert np.array_equal(sizes.at(200), sizes.image)
