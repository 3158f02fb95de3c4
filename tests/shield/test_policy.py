import pytest

from shield.policy import FaceFacts, Policy, judge
from shield.states import Verdict

POLICY = Policy("test/1", fake=0.8, suspect=0.5)


def face(score: float, side: float = 100.0) -> FaceFacts:
    return FaceFacts(0.0, 0.0, side, side, 0.9, score, ((0.0, 0.0),) * 6)


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ((), Verdict.NO_FACE),
        ((0.1, 0.49), Verdict.CLEAR),
        ((0.1, 0.5), Verdict.SUSPECT),
        ((0.1, 0.8), Verdict.FAKE),
        ((0.99, 0.0, 0.0), Verdict.FAKE),
    ],
)
def test_the_highest_face_decides(scores: tuple[float, ...], verdict: Verdict) -> None:
    judgement = judge(tuple(face(score) for score in scores), POLICY)
    assert judgement.verdict == verdict
    assert judgement.score == (max(scores) if scores else None)
    assert judgement.reasons


def test_an_image_of_tiny_faces_is_never_clear() -> None:
    assert judge((face(0.0, side=10), face(0.99, side=12)), POLICY).verdict == Verdict.INCONCLUSIVE


def test_a_tiny_face_beside_a_large_one_is_ignored_and_said_so() -> None:
    judgement = judge((face(0.1), face(0.99, side=12)), POLICY)
    assert judgement.verdict == Verdict.CLEAR
    assert "small_faces_ignored" in judgement.reasons


@pytest.mark.parametrize(("fake", "suspect"), [(0.5, 0.6), (1.1, 0.5), (0.5, 0.0)])
def test_thresholds_out_of_order_are_refused(fake: float, suspect: float) -> None:
    with pytest.raises(ValueError, match="thresholds"):
        Policy("bad", fake=fake, suspect=suspect)
