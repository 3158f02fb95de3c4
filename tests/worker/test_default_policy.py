"""The default policy is the weights card's: its thresholds decide, under the name and version of the card."""

from dataclasses import replace

import pytest

from pipeline.weights import MODELS, load_card
from tests.worker.conftest import House
from tests.worker.stub import CARD, StubScanner
from worker.app import register
from worker.scan import Scanning


def test_the_shipped_cards_thresholds_are_the_policy(house: House) -> None:
    card = load_card(MODELS / "shield-lite0.json")
    policy = register(house.database, card)
    assert (policy.fake, policy.suspect) == (card.thresholds["fake"], card.thresholds["suspect"])
    assert policy.version == f"default/{card.name}-{card.version}"


@pytest.mark.parametrize(
    ("fake", "suspect", "verdict"), [(0.9, 0.5, "fake"), (0.91, 0.9, "suspect"), (0.95, 0.91, "clear")]
)
def test_a_score_is_judged_by_the_card_that_the_worker_brings(
    house: House, fake: float, suspect: float, verdict: str
) -> None:
    job = house.submit(b"face 1")  # scores 0.9
    card = replace(CARD, thresholds={"fake": fake, "fake_strict": 0.99, "suspect": suspect})
    scanning = Scanning(house.database, house.blobs, StubScanner(), register(house.database, card), house.config)
    assert scanning.scan_ready()
    assert house.outcomes(job) == [verdict]
