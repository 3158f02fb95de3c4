"""Average precision and its neighbours, by hand-made detections."""

import numpy as np
import pytest

from pipeline.detections import Floats
from training.detector_data import BoxedPhoto, Framing
from training.detector_metrics import (
    Measured,
    average_precision,
    compare,
    gain_interval,
    match,
    recall_and_false,
    recall_at_false,
)

FACES = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
ALL = np.ones(3, np.bool_)


def found(*rows: tuple[float, float]) -> Floats:
    """Detections [K, 17] of 10 x 10 pixels from (left edge, score)."""
    detections = np.zeros((len(rows), 17), np.float32)
    for detection, (left, score) in zip(detections, rows, strict=True):
        detection[:4] = left, 0, left + 10, 10
        detection[16] = score
    return detections


def test_perfect_detections_have_an_average_precision_of_one() -> None:
    assert average_precision([match(found((0, 0.9), (20, 0.8), (40, 0.7)), FACES, ALL, 0.5)]) == 1.0


def test_a_case_worked_out_by_hand() -> None:
    # hit, false, hit; one face missed: 1/3 at precision 1, 1/3 at precision 2/3
    matches = [match(found((0, 0.9), (100, 0.8), (20, 0.7)), FACES, ALL, 0.5)]
    assert average_precision(matches) == pytest.approx((1 + 2 / 3) / 3)
    assert recall_and_false(matches, 0.75) == pytest.approx((1 / 3, 1.0))
    assert recall_at_false(matches, 0.0) == pytest.approx(1 / 3)
    assert recall_at_false(matches, 1.0) == pytest.approx(2 / 3)


def test_precision_is_interpolated_from_later_points() -> None:
    # false, hit, hit: precision at the first hit (1/2) is lifted to that of the second (2/3)
    matches = [match(found((100, 0.9), (0, 0.8), (20, 0.7)), FACES[:2], ALL[:2], 0.5)]
    assert average_precision(matches) == pytest.approx(2 / 3)


def test_a_second_detection_of_one_face_is_false() -> None:
    matches = match(found((0, 0.9), (1, 0.8)), FACES, ALL, 0.5)
    assert matches.hits.tolist() == [True, False]


def test_the_overlap_asked_for_decides() -> None:
    half = found((4, 0.9))  # 6 of 10 pixels shared: IoU 60 / 140
    assert match(half, FACES, ALL, 0.5).hits.tolist() == [False]
    assert match(half, FACES, ALL, 0.3).hits.tolist() == [True]


def test_boxes_of_other_slices_are_neither_hits_nor_misses() -> None:
    counted = np.array([True, False, False])
    matches = match(found((20, 0.95), (21, 0.94), (0, 0.9), (100, 0.8)), FACES, counted, 0.5)
    assert matches.faces == 1
    assert matches.hits.tolist() == [True, False]
    assert matches.scores.tolist() == pytest.approx([0.9, 0.8])
    assert average_precision([matches]) == 1.0


def test_a_counted_box_goes_before_an_ignored_one_that_overlaps_more() -> None:
    boxes = np.array([[0, 0, 10, 10], [3, 0, 13, 10]], np.float32)
    assert match(found((2, 0.9)), boxes, np.array([True, False]), 0.5).hits.tolist() == [True]


def test_nothing_found_and_nothing_to_find() -> None:
    assert average_precision([match(found(), FACES, ALL, 0.5)]) == 0.0
    nothing = match(found((0, 0.9)), np.empty((0, 4), np.float32), np.empty(0, np.bool_), 0.5)
    assert nothing.hits.tolist() == [False]
    with pytest.raises(ValueError, match="no face counts"):
        average_precision([nothing])


def test_photos_are_ranked_together() -> None:
    sure = match(found((100, 0.9)), FACES[:1], ALL[:1], 0.5)
    less = match(found((0, 0.5)), FACES[:1], ALL[:1], 0.5)
    assert average_precision([sure, less]) == pytest.approx(0.25)


def test_the_interval_of_a_gain_holds_it() -> None:
    photos = range(40)
    before = [match(found((0, 0.9)) if i % 2 else found(), FACES[:1], ALL[:1], 0.5) for i in photos]
    after = [match(found((0, 0.9)), FACES[:1], ALL[:1], 0.5) for i in photos]
    low, high = gain_interval(before, after)
    assert 0 < low < 0.5 < high < 1
    assert gain_interval(before, before) == (0.0, 0.0)


def test_a_comparison_names_what_got_worse() -> None:
    photos = [BoxedPhoto(f"{i}.jpg", 60, 60, FACES, ("con_mascarilla", "con_mascarilla", "new")) for i in range(4)]
    whole, less = found((0, 0.9), (20, 0.8), (40, 0.7)), found((0, 0.9), (20, 0.8))
    face = whole[0]
    report = compare(
        Measured(photos, [whole] * 4, [less] * 4, [face, None], [[face, None], [None, None]], [Framing(1, 0, 0, 0)])
    )
    assert [row["slice"] for row in report["rows"]] == ["all", "0 to 16 px", "masked", "new"]
    assert report["rows"][0]["ap50_after"] == pytest.approx(2 / 3)
    assert "ap50 of new" in report["worse_in"]
    assert "ap50 of masked" not in report["worse_in"]
    assert "portraits" in report["worse_in"]
    assert "false positives" not in report["worse_in"]
    assert report["portraits"]["found_before"] == 1
    assert report["portraits"]["found_after_least"] == 0
