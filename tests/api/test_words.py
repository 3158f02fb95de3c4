import pytest

from api.words import percent, reason_in_words


@pytest.mark.parametrize(
    ("score", "text"),
    [(0.0, "<1 %"), (0.004, "<1 %"), (0.006, "1 %"), (0.5, "50 %"), (0.994, "99 %"), (0.996, ">99 %"), (1.0, ">99 %")],
)
def test_a_percentage_never_claims_certainty(score: float, text: str) -> None:
    assert percent(score) == text


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("1_of_1_faces_reach_fake", "The face scores high enough to be fake."),
        ("1_of_6_faces_reach_suspect", "1 of 6 faces scores high enough to be suspect."),
        ("2_of_3_faces_reach_fake", "2 of 3 faces score high enough to be fake."),
        ("no_face_reaches_suspect", "No face scores high enough to be suspect."),
        ("a_reason_of_a_later_release", "A reason of a later release."),
    ],
)
def test_a_reason_is_a_sentence(code: str, text: str) -> None:
    assert reason_in_words(code) == text
