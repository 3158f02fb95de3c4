"""Anchors, decoding and suppression, on boxes made by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detections import COLUMNS, SCORE, Floats, anchors, blend_overlapping, decode, drop_parts, overlaps


def detection(left: float, top: float, right: float, bottom: float, score: float) -> Floats:
    row = np.zeros(COLUMNS, np.float32)
    row[:4] = left, top, right, bottom
    row[4:SCORE] = left
    row[SCORE] = score
    return row


def test_anchors_stand_in_the_middle_of_their_cells_two_fine_then_six_coarse() -> None:
    centres = anchors(256, 256, 16)
    assert centres.shape == (896, 2)
    assert centres[:4].tolist() == [[8, 8], [8, 8], [24, 8], [24, 8]]
    assert centres[512:519].tolist() == [[16, 16]] * 6 + [[48, 16]]


def test_anchors_of_an_oblong_input_go_row_by_row() -> None:
    centres = anchors(64, 96, 16)
    assert len(centres) == 4 * 6 * 2 + 2 * 3 * 6
    assert centres[:, 0].max() == 88
    assert centres[:, 1].max() == 56


def test_decoding_adds_the_anchor_and_keeps_what_scores_enough_best_first() -> None:
    boxes = np.zeros((3, 16), np.float32)
    boxes[:, 2:4] = 10, 20  # width, height
    boxes[1, :2] = 5, -5  # the centre's offset
    boxes[1, 4:6] = 1, 2  # the first landmark's
    centres = np.full((3, 2), 100, np.float32)
    logits = np.array([[-9.0], [9.0], [0.0]], np.float32)
    (found,) = decode(boxes[None], logits[None], centres, threshold=0.5)
    assert found[:, :4].tolist() == [[100, 85, 110, 105], [95, 90, 105, 110]]
    assert found[0, 4:6].tolist() == [101, 102]
    assert found[:, SCORE] == pytest.approx([0.99988, 0.5], abs=1e-5)


def test_decoding_survives_logits_beyond_float32() -> None:
    boxes = np.ones((2, 16), np.float32)
    logits = np.array([[-1000.0], [1000.0]], np.float32)
    (found,) = decode(boxes[None], logits[None], np.zeros((2, 2), np.float32), threshold=0.0)
    assert found[:, SCORE] == pytest.approx([1.0, 0.0])


def test_a_box_turned_inside_out_is_dropped() -> None:
    boxes = np.full((1, 1, 16), -3, np.float32)
    (found,) = decode(boxes, np.array([[[9.0]]], np.float32), np.zeros((1, 2), np.float32), threshold=0.5)
    assert len(found) == 0


@given(st.lists(st.lists(st.floats(-4, 4, width=32), min_size=5, max_size=5), min_size=1, max_size=6))
def test_inputs_decoded_together_give_what_each_gives_alone(drawn: list[list[float]]) -> None:
    logits = np.array(drawn, np.float32)[..., None]
    boxes = np.random.default_rng(len(drawn)).normal(1, 1, (len(drawn), 5, 16)).astype(np.float32)
    centres = np.arange(10, dtype=np.float32).reshape(5, 2)
    together = decode(boxes, logits, centres, threshold=0.5)
    assert len(together) == len(drawn)
    for index, found in enumerate(together):
        (alone,) = decode(boxes[index : index + 1], logits[index : index + 1], centres, threshold=0.5)
        assert np.array_equal(found, alone)
        assert (np.diff(found[:, SCORE]) <= 0).all()


def test_overlap_is_intersection_over_union() -> None:
    one = np.array([[0, 0, 10, 10]], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    assert overlaps(one, others)[0] == pytest.approx([1, 1 / 3, 0, 0])


def test_overlapping_boxes_become_their_mean_weighted_by_score() -> None:
    found = blend_overlapping(np.stack([detection(0, 0, 10, 10, 0.9), detection(2, 0, 12, 10, 0.3)]), overlap=0.3)
    assert len(found) == 1
    assert found[0, :4] == pytest.approx([0.5, 0, 10.5, 10])
    assert found[0, 4] == pytest.approx(0.5)  # landmarks are weighted alike
    assert found[0, SCORE] == pytest.approx(0.9)


def test_boxes_apart_stay_apart_best_first() -> None:
    found = blend_overlapping(np.stack([detection(0, 0, 10, 10, 0.6), detection(50, 50, 60, 60, 0.8)]), overlap=0.3)
    assert found[:, SCORE] == pytest.approx([0.8, 0.6])


def test_no_boxes_give_no_boxes() -> None:
    none = np.zeros((0, COLUMNS), np.float32)
    assert blend_overlapping(none, 0.3).shape == drop_parts(none, 0.5).shape == (0, COLUMNS)


def test_a_part_of_a_better_box_goes_and_a_box_around_it_stays() -> None:
    face, cheek = detection(0, 0, 100, 100, 0.9), detection(10, 10, 40, 40, 0.8)
    assert drop_parts(np.stack([cheek, face]), 0.5)[:, SCORE] == pytest.approx([0.9])
    head, wall = detection(40, 40, 60, 60, 0.9), detection(0, 0, 100, 100, 0.8)
    assert len(drop_parts(np.stack([head, wall]), 0.5)) == 2


corner = st.floats(0, 100, width=32)
rows = st.lists(st.tuples(corner, corner, corner, corner, st.floats(0.125, 1, width=32)), max_size=30)


@given(rows)
def test_suppression_never_invents_a_score_or_leaves_the_hull(drawn: list[tuple[float, ...]]) -> None:
    given_rows = np.array([detection(*row) for row in drawn], np.float32).reshape(-1, COLUMNS)
    found = blend_overlapping(given_rows, 0.3)
    assert len(found) <= len(given_rows)
    assert np.isin(found[:, SCORE], given_rows[:, SCORE]).all()
    if len(found):
        assert found[:, :4].min() >= given_rows[:, :4].min() - 1e-3
        assert found[:, :4].max() <= given_rows[:, :4].max() + 1e-3
        assert found[0, SCORE] == given_rows[:, SCORE].max()
