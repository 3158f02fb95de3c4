import numpy as np
import pytest

from pipeline.weights import Calibration
from training.calibration import fit
from training.metrics import auc, ece, eer, figures, roc, threshold_at, tpr_at

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.8, 0.4, 0.7, 0.8, 0.9])


def test_auc_counts_the_pairs_in_order_and_ties_half() -> None:
    pairs = [(f > r) + 0.5 * (f == r) for f in SCORES[4:] for r in SCORES[:4]]
    assert auc(LABELS, SCORES) == pytest.approx(np.mean(pairs))
    assert auc(LABELS, np.full(8, 0.5)) == 0.5
    assert auc(LABELS, -SCORES) == pytest.approx(1 - auc(LABELS, SCORES))


def test_the_roc_runs_from_corner_to_corner_and_its_area_is_the_auc() -> None:
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 500), rng.random(500).round(2)
    fpr, tpr = roc(labels, scores)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    area = (np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum()
    assert area == pytest.approx(auc(labels, scores))


def test_eer_and_tpr_of_a_known_case() -> None:
    assert eer(LABELS, SCORES) == pytest.approx(0.25)
    assert tpr_at(LABELS, SCORES, 0.0) == pytest.approx(0.25)
    assert tpr_at(LABELS, SCORES, 0.25) == pytest.approx(1.0)


@pytest.mark.parametrize("limit", [0.0, 0.01, 0.05, 0.5])
def test_a_threshold_flags_no_more_real_faces_than_allowed(limit: float) -> None:
    rng = np.random.default_rng(2)
    labels, scores = np.repeat([0, 1], [300, 10]), rng.random(310)
    flagged = (scores[labels == 0] >= threshold_at(scores[labels == 0], limit)).mean()
    assert limit - 1 / 300 <= flagged <= limit


def test_ece_is_the_gap_between_said_and_true() -> None:
    assert ece(np.array([0, 1] * 50), np.full(100, 0.5)) == pytest.approx(0)
    assert ece(np.array([0, 1] * 50), np.full(100, 0.9)) == pytest.approx(0.4)


def test_one_label_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="only fakes"):
        figures(np.ones(4, np.int64), np.full(4, 0.5))


def test_calibration_finds_the_scale_and_the_shift_that_were_lost() -> None:
    rng = np.random.default_rng(3)
    honest = rng.normal(0, 2, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-honest))).astype(np.int64)
    found = fit(labels, (honest * 3 + 1).astype(np.float32))
    assert found.temperature == pytest.approx(3, rel=0.05)
    assert found.bias == pytest.approx(-1 / 3, abs=0.05)
    assert ece(labels, found.score((honest * 3 + 1).astype(np.float32))) < 0.02


def test_calibration_refuses_scores_that_tell_nothing() -> None:
    labels = np.array([0, 0, 1, 1])
    with pytest.raises(ValueError, match="no better than chance"):
        fit(labels, np.array([1.0, 0.4, 0.5, -1.0], np.float32))


def test_the_score_of_any_logit_is_a_probability() -> None:
    scores = Calibration(0.1, 2.0).score(np.array([-1e9, 0, 1e9], np.float32))
    assert ((scores >= 0) & (scores <= 1)).all()
