"""Which faults are drawn."""

import random

import pytest

from chaos.injector import NAMED, deck
from chaos.report import STEP_SHARE
from chaos.steps import STEPS

KINDS = [f"kind {number}" for number in range(18)]


@pytest.mark.parametrize("count", [26, 52, 100, 500])
def test_of_every_25_faults_one_is_at_each_named_step(count: int) -> None:
    for seed in range(50):
        drawn = deck(KINDS, count, random.Random(seed))
        assert len(drawn) == count
        assert min(drawn.count(f"step {step}") for step in NAMED) >= count // STEP_SHARE


def test_a_round_has_every_kind_and_every_step() -> None:
    drawn = deck(KINDS, 53, random.Random(1))
    assert {*KINDS, *(f"step {step}" for step in STEPS)} <= set(drawn)
