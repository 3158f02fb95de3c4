"""The detector on real photos, and the geometry of its letterboxes."""

import json

import numpy as np
import pytest

from pipeline.crops import Sizes, resize
from pipeline.detections import COLUMNS, SCORE, overlaps
from pipeline.engine import OnnxEngine
from pipeline.faces import FaceDetector, letterbox
from pipeline.weights import MODELS, load_card
from tests.pipeline.photos import COLLINS, GROUP, HOPPER, LANDSCAPE, SAMPLES, pixels_of

EXPECTED = json.loads((SAMPLES / "expected.json").read_text())


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    back, short = (OnnxEngine(load_card(MODELS / f"blazeface-{name}.json")) for name in ("back", "short"))
    return FaceDetector(back, short)


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (1, 900), (900, 1), (33, 31), (2000, 2000)])
@pytest.mark.parametrize("longest", [256, 512])
def test_points_come_back_from_a_letterbox_to_where_they_were(shape: tuple[int, int], longest: int) -> None:
    height, width = shape
    box = letterbox(Sizes(np.full((height, width, 3), 9, np.uint8), [longest]), longest)
    assert max(box.canvas.shape) == longest
    assert box.canvas.shape[0] % 32 == box.canvas.shape[1] % 32 == 0
    corners = np.zeros((1, COLUMNS), np.float32)
    corners[0, :4] = width * 0.25, height * 0.5, width, height
    on_canvas = corners.copy()
    on_canvas[0, :4] *= np.tile(box.scale, 2)
    assert box.to_image(on_canvas)[0, :4] == pytest.approx(corners[0, :4], rel=1e-5)


def test_what_is_beside_the_image_in_a_letterbox_is_black() -> None:
    canvas = letterbox(Sizes(np.full((100, 400, 3), 200, np.uint8), [256]), 256).canvas
    assert canvas.shape == (64, 256, 3)
    assert (canvas == 200).all()
    canvas = letterbox(Sizes(np.full((110, 400, 3), 200, np.uint8), [256]), 256).canvas
    assert (canvas[:70] == 200).all()
    assert (canvas[70:] == 0).all()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_sample_has_the_faces_that_people_count_in_it(detector: FaceDetector, name: str) -> None:
    (found,) = detector.find([pixels_of(SAMPLES / name)])
    assert len(found) == EXPECTED[name]["faces"]


def test_a_face_lies_where_it_is_with_its_landmarks_in_place(detector: FaceDetector) -> None:
    (found,) = detector.find([pixels_of(COLLINS)])
    box, points = found[0, :4], found[0, 4:SCORE].reshape(6, 2)
    assert overlaps(found[:1], np.array([[172, 73, 278, 178]], np.float32))[0, 0] > 0.7
    right_eye, left_eye, nose, mouth, _, _ = points
    assert box[0] < right_eye[0] < nose[0] < left_eye[0] < box[2]
    assert right_eye[1] < nose[1] < mouth[1] < box[3]


def test_many_images_together_give_what_each_gives_alone(detector: FaceDetector) -> None:
    images = [pixels_of(path) for path in (GROUP, LANDSCAPE, HOPPER, COLLINS)]
    together = detector.find(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = detector.find([image])
        assert found == pytest.approx(alone, abs=0.05)


def test_a_face_is_found_again_in_a_photo_of_another_size(detector: FaceDetector) -> None:
    photo = pixels_of(HOPPER)
    height, width = photo.shape[:2]
    (usual,) = detector.find([photo])
    for factor in (0.4, 2.0):
        (found,) = detector.find([resize(photo, round(width * factor), round(height * factor))])
        assert len(found) == 1
        assert overlaps(found[:, :4] / np.float32(factor), usual)[0, 0] > 0.7


def test_a_small_face_in_a_large_photo_is_found_at_a_finer_scale(detector: FaceDetector) -> None:
    photo = pixels_of(HOPPER)
    small = resize(photo, photo.shape[1] // 6, photo.shape[0] // 6)
    canvas = resize(pixels_of(LANDSCAPE), 1920, 1281)
    canvas[600 : 600 + small.shape[0], 900 : 900 + small.shape[1]] = small
    (found,) = detector.find([canvas])
    (there,) = detector.find([photo])
    expected = there[:1, :4] / np.float32(6) + np.array([900, 600, 900, 600], np.float32)
    assert overlaps(expected, found).max(initial=0.0) > 0.5


def test_a_face_that_the_edge_cuts_has_a_box_within_the_image(detector: FaceDetector) -> None:
    photo = pixels_of(HOPPER)
    cut = photo[:, 200:]
    (found,) = detector.find([cut])
    assert len(found) == 1
    assert found[0, 0] >= 0
    assert found[0, 2] <= cut.shape[1]


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (1, 300), (15, 2)])
def test_the_smallest_images_have_no_face(detector: FaceDetector, shape: tuple[int, int]) -> None:
    (found,) = detector.find([np.full((*shape, 3), 128, np.uint8)])
    assert found.shape == (0, COLUMNS)
