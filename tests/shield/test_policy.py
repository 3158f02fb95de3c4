import math
from dataclasses import replace
from typing import Any

import pytest

from shield.policy import FaceFacts, Origin, Policy, Rule, Terms, judge, peak, sampled
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
    judgement = judge(tuple(face(score) for score in scores), POLICY, Origin.UPLOAD)
    assert judgement.verdict == verdict
    assert judgement.score == (max(scores) if scores else None)
    assert judgement.reasons


def test_an_image_of_tiny_faces_is_never_clear() -> None:
    assert judge((face(0.0, side=10), face(0.99, side=12)), POLICY, Origin.UPLOAD).verdict == Verdict.INCONCLUSIVE


def test_a_tiny_face_beside_a_large_one_is_ignored_and_said_so() -> None:
    judgement = judge((face(0.1), face(0.99, side=12)), POLICY, Origin.UPLOAD)
    assert judgement.verdict == Verdict.CLEAR
    assert "small_faces_ignored" in judgement.reasons


@pytest.mark.parametrize(("fake", "suspect"), [(0.5, 0.6), (1.1, 0.5), (0.5, 0.0)])
def test_thresholds_out_of_order_are_refused(fake: float, suspect: float) -> None:
    with pytest.raises(ValueError, match="thresholds"):
        Policy("bad", fake=fake, suspect=suspect)


def small(score: float) -> FaceFacts:
    return face(score, side=30)


RULES = replace(
    POLICY,
    rules=(
        Rule(fake=0.95, suspect=0.9, origins=(Origin.URL,), below=50.0),
        Rule(fake=0.7, suspect=0.6, below=50.0),
        Rule(fake=0.3, suspect=0.2, origins=(Origin.S3, Origin.URL)),
    ),
)


@pytest.mark.parametrize(
    ("given", "origin", "verdict"),
    [
        (small(0.85), Origin.URL, Verdict.CLEAR),  # the first rule is for it: the others are not looked at
        (small(0.65), Origin.UPLOAD, Verdict.SUSPECT),
        (small(0.55), Origin.UPLOAD, Verdict.CLEAR),
        (face(0.25, side=50), Origin.S3, Verdict.SUSPECT),  # not below 50
        (face(0.35), Origin.URL, Verdict.FAKE),
        (face(0.35), Origin.UPLOAD, Verdict.CLEAR),  # none fits: the policy's own
        (face(0.8), Origin.UPLOAD, Verdict.FAKE),
    ],
)
def test_the_first_rule_that_fits_a_face_gives_its_thresholds(
    given: FaceFacts, origin: Origin, verdict: Verdict
) -> None:
    assert judge((given,), RULES, origin).verdict == verdict


def test_each_face_of_an_image_goes_by_its_own_rule() -> None:
    judgement = judge((face(0.45), small(0.62)), RULES, Origin.UPLOAD)
    assert (judgement.verdict, judgement.reasons, judgement.score) == (
        Verdict.SUSPECT,
        ("1_of_2_faces_reach_suspect",),
        0.62,
    )


def test_an_origin_is_told_by_the_url() -> None:
    urls = (None, "https://example.org/s3://x.jpg", "s3://bucket/key")
    assert [Origin.of(url) for url in urls] == [Origin.UPLOAD, Origin.URL, Origin.S3]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"fake": 0.9, "suspect": 0.95, "below": 20.0}, "thresholds"),
        ({"fake": 0.9, "suspect": 0.5}, "which sources"),
        ({"fake": 0.9, "suspect": 0.5, "below": 0.0}, "never smaller"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Rule(**rule)  # type: ignore[arg-type]


def test_terms_take_what_they_leave_open_from_the_default() -> None:
    default = Policy("default/x", fake=0.7, suspect=0.4)
    assert Terms(review_share=0.1).policy("account/1", default) == Policy("account/1", 0.7, 0.4, review_share=0.1)
    own = Terms(fake=0.9, suspect=0.6, smallest_face=40.0, rules=RULES.rules).policy("account/2", default)
    assert own == Policy("account/2", 0.9, 0.6, 40.0, RULES.rules)


@pytest.mark.parametrize(
    "terms",
    [
        {"fake": 0.9},
        {"suspect": 0.5},
        {"fake": 0.4, "suspect": 0.5},
        {"smallest_face": -1.0},
        {"review_share": 1.1},
        {"review_share": math.nan},
        {"smallest_face": math.nan},
        {"rules": (Rule(0.9, 0.5, below=9.0),) * 21},
    ],
)
def test_terms_out_of_range_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"thresholds|face|share|rules"):
        Terms(**terms)


def test_a_sample_is_of_its_share_stays_and_only_grows() -> None:
    ids = [f"itm_{n:027x}_0000000" for n in range(20_000)]
    tenth = {item_id for item_id in ids if sampled(item_id, 0.1)}
    fifth = {item_id for item_id in ids if sampled(item_id, 0.2)}
    assert 1_850 < len(tenth) < 2_150  # 3.5 standard deviations
    assert tenth < fifth
    assert [sum(sampled(item_id, share) for item_id in ids) for share in (0.0, 1.0)] == [0, len(ids)]


def test_the_peak_is_what_the_policys_own_thresholds_would_have_to_pass() -> None:
    faces = (face(0.4), small(0.55), face(0.99, side=10))
    assert peak(faces, RULES, Origin.UPLOAD, Verdict.SUSPECT) == 0.4
    assert peak((face(0.4), small(0.65)), RULES, Origin.UPLOAD, Verdict.SUSPECT) == math.inf
    assert peak((face(0.4), small(0.65)), RULES, Origin.UPLOAD, Verdict.FAKE) == 0.4
    assert peak((), RULES, Origin.UPLOAD, Verdict.FAKE) == 0.0
    for scores in ((0.1, 0.6), (0.5,), (0.49, 0.2)):
        image = tuple(face(score) for score in scores)
        flagged = judge(image, POLICY, Origin.UPLOAD).verdict == Verdict.SUSPECT
        assert (peak(image, POLICY, Origin.UPLOAD, Verdict.SUSPECT) >= POLICY.suspect) == flagged
