"""Face swaps: what changes, what must not, and what is refused. The photos are real, the landmarks given by hand."""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data import Pixels, decode_rgb
from training.swaps import Blend, add_arguments, encode, face_mask, find_landmarks, main, swap_face

SAMPLES = Path(__file__).parents[2] / "samples"
Points = NDArray[np.float64]
COLLINS = np.array([[203.0, 102.0], [248.0, 104.0], [224.0, 128.0], [224.0, 149.0], [178.0, 112.0], [273.0, 114.0]])
HOPPER = np.array([[227.0, 195.0], [310.0, 191.0], [270.0, 240.0], [272.0, 280.0], [184.0, 215.0], [355.0, 207.0]])


def photo(name: str) -> Pixels:
    return decode_rgb((SAMPLES / "originals" / f"{name}.jpg").read_bytes(), name)


@pytest.fixture(scope="module")
def collins() -> Pixels:
    return photo("collins")


@pytest.fixture(scope="module")
def hopper() -> Pixels:
    return photo("hopper")


@pytest.mark.parametrize("blend", ["feather", "poisson"])
def test_a_swap_has_the_shape_and_type_of_its_target(collins: Pixels, hopper: Pixels, blend: Blend) -> None:
    swapped = swap_face(hopper, HOPPER, collins, COLLINS, blend)
    assert swapped.shape == hopper.shape
    assert swapped.dtype == np.uint8


@pytest.mark.parametrize("blend", ["feather", "poisson"])
def test_a_face_swapped_with_itself_changes_little(hopper: Pixels, blend: Blend) -> None:
    swapped = swap_face(hopper, HOPPER, hopper, HOPPER, blend)
    difference = np.abs(swapped.astype(int) - hopper)[face_mask(hopper.shape, HOPPER) > 0]
    assert difference.mean() < 2


@pytest.mark.parametrize("blend", ["feather", "poisson"])
def test_a_swap_changes_the_face_and_nothing_far_from_it(collins: Pixels, hopper: Pixels, blend: Blend) -> None:
    swapped = swap_face(hopper, HOPPER, collins, COLLINS, blend)
    mask = face_mask(hopper.shape, HOPPER)
    around = cv2.dilate(mask, np.ones((61, 61), np.uint8)) > 0
    difference = np.abs(swapped.astype(int) - hopper).max(axis=2)
    assert difference[~around].max() == 0
    assert difference[mask > 0].mean() > 10


def test_the_new_face_is_that_of_the_source_in_the_colours_of_the_target(collins: Pixels, hopper: Pixels) -> None:
    swapped = swap_face(hopper, HOPPER, collins, COLLINS)
    inside = cv2.erode(face_mask(hopper.shape, HOPPER), np.ones((25, 25), np.uint8)) > 0
    assert np.abs(swapped[inside].mean(axis=0) - hopper[inside].mean(axis=0)).max() < 12
    # Hopper's eyes to mouth, found again in Collins at Collins's scale, correlate with the swap and not with Hopper.
    matrix, _ = cv2.estimateAffinePartial2D(COLLINS[:4], HOPPER[:4])
    moved = cv2.warpAffine(collins, matrix, hopper.shape[1::-1])
    detail = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[inside] for image in (moved, swapped, hopper)]
    assert np.corrcoef(detail[0], detail[1])[0, 1] > 0.6
    assert np.corrcoef(detail[0], detail[2])[0, 1] < 0.5


def test_a_photo_without_colour_stays_without(collins: Pixels) -> None:
    grey = cv2.cvtColor(cv2.cvtColor(photo("hopper"), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8)
    swapped = swap_face(grey, HOPPER, collins, COLLINS).astype(int)
    assert np.ptp(swapped, axis=2).max() <= 2


@pytest.mark.parametrize("landmarks", [COLLINS, HOPPER])
def test_the_mask_covers_eyes_nose_and_mouth_and_spares_the_ears(landmarks: Points) -> None:
    mask = face_mask((600, 512), landmarks)
    x, y = landmarks.round().astype(int).T
    assert (mask[y[:4], x[:4]] == 255).all()
    assert (mask[y[4:], x[4:]] == 0).all()


def test_a_source_cut_off_below_the_mouth_leaves_the_chin_of_the_target(collins: Pixels, hopper: Pixels) -> None:
    """No black border: where the source photo ends, the target shows."""
    chin = np.s_[320:330, 250:290]  # a whole source covers it
    assert (swap_face(hopper, HOPPER, collins, COLLINS)[chin] != hopper[chin]).any()
    swapped = swap_face(hopper, HOPPER, collins[:155], COLLINS)
    assert (swapped[chin] == hopper[chin]).all()
    assert (swapped[200:280, 250:290] != hopper[200:280, 250:290]).any()


def test_a_target_cut_off_at_the_mouth_is_swapped_as_far_as_it_goes(collins: Pixels, hopper: Pixels) -> None:
    cut = hopper[:285]
    swapped = swap_face(cut, HOPPER, collins, COLLINS)
    assert swapped.shape == cut.shape
    assert (swapped != cut).any()


def test_large_photos_are_swapped_at_full_size(collins: Pixels, hopper: Pixels) -> None:
    large = cv2.resize(hopper, None, fx=3, fy=3).astype(np.uint8)
    swapped = swap_face(large, HOPPER * 3, collins, COLLINS)
    small = cv2.resize(swapped, hopper.shape[1::-1], interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - swap_face(hopper, HOPPER, collins, COLLINS)).mean() < 3


def test_the_photos_themselves_are_left_alone(collins: Pixels, hopper: Pixels) -> None:
    before = collins.copy(), hopper.copy()
    swap_face(hopper, HOPPER, collins, COLLINS)
    assert np.array_equal(before[0], collins)
    assert np.array_equal(before[1], hopper)


@pytest.mark.parametrize("landmarks", [COLLINS[:5], COLLINS.ravel(), np.zeros((6, 3))])
def test_landmarks_of_another_shape_are_refused(collins: Pixels, hopper: Pixels, landmarks: Points) -> None:
    with pytest.raises(ValueError, match=r"landmarks must be \[6, 2\]"):
        swap_face(hopper, HOPPER, collins, landmarks)
    with pytest.raises(ValueError, match=r"landmarks must be \[6, 2\]"):
        swap_face(hopper, landmarks, collins, COLLINS)


@pytest.mark.parametrize("landmarks", [np.zeros((6, 2)), np.full((6, 2), np.nan), np.arange(12.0).reshape(6, 2)])
def test_landmarks_that_span_no_face_are_refused(collins: Pixels, hopper: Pixels, landmarks: Points) -> None:
    with pytest.raises(ValueError, match="do not span a face"):
        swap_face(hopper, HOPPER, collins, landmarks)


def test_other_pixels_than_rgb_bytes_are_refused(collins: Pixels, hopper: Pixels) -> None:
    with pytest.raises(ValueError, match=r"\[H, W, 3\] uint8"):
        swap_face(hopper, HOPPER, np.asarray(collins[..., 0]), COLLINS)


def test_an_unknown_blend_is_refused(collins: Pixels, hopper: Pixels) -> None:
    with pytest.raises(ValueError, match="blend must be one of feather, poisson"):
        swap_face(hopper, HOPPER, collins, COLLINS, "glue")  # type: ignore[arg-type]


def test_faces_outside_their_photo_are_refused(collins: Pixels, hopper: Pixels) -> None:
    with pytest.raises(ValueError, match="do not overlap"):
        swap_face(hopper, HOPPER, collins, COLLINS - 500)


def test_saving_keeps_the_size_and_almost_the_pixels(hopper: Pixels) -> None:
    again = decode_rgb(encode(hopper), "again")
    assert again.shape == hopper.shape
    assert np.abs(again.astype(int) - hopper).mean() < 3


def test_every_sample_photo_has_an_expectation() -> None:
    photos = {str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*.jpg")}
    assert photos == set(json.loads((SAMPLES / "expected.json").read_text()))


def swap(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args([str(word) for word in words]))


@pytest.mark.parametrize(("name", "by_hand"), [("collins", COLLINS), ("hopper", HOPPER)])
def test_the_landmarks_found_are_those_seen(name: str, by_hand: Points) -> None:
    eyes_nose_mouth = np.s_[:4]  # ears that hair hides are guesses
    assert np.abs(find_landmarks(photo(name), name) - by_hand)[eyes_nose_mouth].max() < 8


def test_the_command_makes_the_swap_that_is_committed(tmp_path: Path) -> None:
    out, originals = tmp_path / "swap.jpg", SAMPLES / "originals"
    assert swap("--target", originals / "hopper.jpg", "--source", originals / "collins.jpg", "--out", out) == 0
    made, committed = (
        decode_rgb(path.read_bytes(), path.name) for path in (out, SAMPLES / "fakes" / "hopper_with_collins.jpg")
    )
    assert np.abs(made.astype(int) - committed).mean() < 1


@pytest.mark.parametrize(
    ("target", "reason"),
    [("landscape.jpg", "no face found"), ("README.md", "not a picture"), ("missing.jpg", "No such file")],
)
def test_the_command_says_why_it_cannot(
    target: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "swap.jpg"
    assert swap("--target", SAMPLES / target, "--source", SAMPLES / "originals" / "collins.jpg", "--out", out) == 1
    complaint = capsys.readouterr().err
    assert reason in complaint
    assert target in complaint
    assert not out.exists()
