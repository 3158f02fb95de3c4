import pytest

from api.words import DELIVERY_STATES, DISABLED, EVENTS, left, percent, reason_in_words
from shield.states import DeliveryState, DisabledReason, EventType


@pytest.mark.parametrize(
    ("score", "text"),
    [
        *((0.0, "<1 %"), (0.004, "<1 %"), (0.006, "1 %"), (0.5, "50 %"), (0.949, "95 %")),
        *((0.95, "95.0 %"), (0.9923, "99.2 %"), (0.9994, "99.9 %"), (0.9996, ">99.9 %"), (1.0, ">99.9 %")),
    ],
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than a minute left"),
        (41, "about a minute left"),
        (89, "about a minute left"),
        (90, "about 2 min left"),
        (5399, "about 90 min left"),
        (5400, "about 2 h left"),
        (36000, "about 10 h left"),
    ],
)
def test_what_is_left_is_said_roughly(seconds: int, text: str) -> None:
    assert left(seconds) == text


def test_there_are_words_for_everything_that_can_happen() -> None:
    assert set(EVENTS) == set(EventType) - {EventType.ENDPOINT_TEST}
    assert set(DELIVERY_STATES) == set(DeliveryState)
    assert set(DISABLED) == set(DisabledReason)
