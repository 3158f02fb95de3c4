"""Boxes, framing, anchors and crops of the detector's training, by hand-made cases."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.detections import Floats, anchors
from pipeline.faces import BACK_STRIDE
from training.data import DataError, FolderPictures
from training.detector_data import (
    COLUMNS,
    Framing,
    anchor_sizes,
    fit_framing,
    folds_of,
    match_anchors,
    random_crop,
    read_boxes,
)

SIDE = 256
EVERY = np.array([True])


def square(x: float, y: float, side: float) -> Floats:
    return np.array([[x - side / 2, y - side / 2, x + side / 2, y + side / 2]], np.float32)


def table(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return path


def test_rows_of_one_photo_come_together(tmp_path: Path) -> None:
    path = table(tmp_path, "a.jpg,40,30,masked,1,2,11,12", "b.jpg,40,30,masked,0,0,9,9", "a.jpg,40,30,bare,20,5,30,16")
    first, second = read_boxes(path)
    assert (first.file, first.width, first.height, first.kinds) == ("a.jpg", 40, 30, ("masked", "bare"))
    assert first.boxes.tolist() == [[1, 2, 11, 12], [20, 5, 30, 16]]
    assert second.file == "b.jpg"


@pytest.mark.parametrize(
    "row",
    [
        "a.jpg,40,30,masked,11,2,1,12",
        "a.jpg,40,30,masked,1,2,nan,12",
        "a.jpg,40,30,masked,50,2,60,12",
        "a.jpg,wide,30,masked,1,2,11,12",
        "a.jpg,40,30,masked,1,2,11,",
        ",40,30,masked,1,2,11,12",
        "a.jpg,40,30,,1,2,11,12",
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"boxes\.csv:3: "):
        read_boxes(table(tmp_path, "a.jpg,40,30,masked,1,2,11,12", row))


def test_a_csv_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        read_boxes(table(tmp_path))


def test_a_photo_of_another_size_is_named(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "samples" / "group.jpg"
    (photo,) = read_boxes(table(tmp_path, "group.jpg,40,30,masked,1,2,11,12"))
    with pytest.raises(DataError, match=r"group\.jpg is .* its boxes are for 40x30"):
        photo.pixels(FolderPictures(sample.parent))


def test_the_framing_is_found_again() -> None:
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(0, 200, (40, 2)), rng.uniform(10, 90, (40, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    true = Framing(wide=0.6, high=0.3, right=-0.02, down=0.1)
    found = fit_framing(boxes, true.apply(boxes))
    assert (found.wide, found.high, found.right, found.down) == pytest.approx((0.6, 0.3, -0.02, 0.1), abs=1e-4)


def test_a_scene_is_in_one_fold_and_folds_are_even() -> None:
    scenes = np.array([0, 1, 2, 0, 3, 4, 5, 1, 6, 7])
    folds = folds_of(scenes, 2, seed=7)
    assert folds[0] == folds[3]
    assert folds[1] == folds[7]
    of_scene = dict(zip(scenes.tolist(), folds.tolist(), strict=True))
    assert sorted(of_scene.values()).count(0) == 4
    assert (folds == folds_of(scenes, 2, seed=7)).all()


@pytest.mark.parametrize(("side", "repeat"), [(40.0, 0), (90.625, 2), (222.0, 7)])
def test_a_face_is_learnt_by_anchors_of_its_size_at_its_place(side: float, repeat: int) -> None:
    centres, sizes = anchors(SIDE, SIDE, BACK_STRIDE), anchor_sizes(SIDE, SIDE)
    labels, targets = match_anchors(square(136, 120, side), EVERY, SIDE)
    chosen = np.flatnonzero(labels == 1)
    fine = 2 * (SIDE // BACK_STRIDE) ** 2
    kinds = {int(i % 2 if i < fine else 2 + (i - fine) % 6) for i in chosen}
    assert repeat in kinds
    assert np.all((sizes[chosen] > side / 2) & (sizes[chosen] < side * 2))
    np.testing.assert_allclose(centres[chosen] + targets[chosen, :2], np.tile([136, 120], (len(chosen), 1)), atol=1e-3)
    np.testing.assert_allclose(targets[chosen, 2:], side, atol=1e-3)
    far = np.abs(centres - (136, 120)).max(axis=1) > side + sizes / 2
    assert np.all(labels[far] == 0)


def test_a_small_face_has_one_anchor_next_to_it_and_neutral_neighbours() -> None:
    labels, _ = match_anchors(square(104, 104, 14), EVERY, SIDE)
    (chosen,) = np.flatnonzero(labels == 1)
    assert anchors(SIDE, SIDE, BACK_STRIDE)[chosen].tolist() == [104, 104]
    assert (labels == -1).any()


def test_each_of_two_small_faces_close_by_has_its_own_anchor() -> None:
    faces = np.concatenate([square(104, 104, 14), square(120, 104, 14)])
    labels, targets = match_anchors(faces, np.array([True, True]), SIDE)
    chosen = labels == 1
    centres = anchors(SIDE, SIDE, BACK_STRIDE)[chosen] + targets[chosen, :2]
    assert {tuple(centre) for centre in centres.tolist()} == {(104.0, 104.0), (120.0, 104.0)}


def test_a_face_that_is_not_usable_is_neither_learnt_nor_unlearnt() -> None:
    labels, _ = match_anchors(square(104, 104, 40), ~EVERY, SIDE)
    assert set(labels.tolist()) == {-1, 0}


def test_a_photo_without_faces_is_all_background() -> None:
    labels, _ = match_anchors(np.empty((0, 4), np.float32), np.empty(0, np.bool_), SIDE)
    assert set(labels.tolist()) == {0}


def test_boxes_stay_on_their_faces_through_crop_scale_and_mirror() -> None:
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[80:120, 140:180] = 255
    box = np.array([[140, 80, 180, 120]], np.float32)
    rng = np.random.default_rng(1)
    for _ in range(30):
        crop, moved = random_crop(pixels, box, SIDE, rng)
        assert crop.shape == (SIDE, SIDE, 3)
        lit = np.argwhere(crop[..., 0] > 127)
        left, top, right, bottom = np.clip(moved[0], 0, SIDE)
        assert (lit[:, 1].min(), lit[:, 0].min()) == pytest.approx((left, top), abs=2)
        assert (lit[:, 1].max() + 1, lit[:, 0].max() + 1) == pytest.approx((right, bottom), abs=2)
        assert 0 <= (moved[0, 0] + moved[0, 2]) / 2 <= SIDE
