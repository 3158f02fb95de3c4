"""The shipped weights judge the sample photos rightly, through the whole system."""

import csv

import pytest

from deepfake_shield import Result, Shield
from tests.flow.conftest import SAMPLES
from tests.flow.stack import Stack

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

PAIRS = list(csv.DictReader((SAMPLES / "pairs.csv").read_text().splitlines()))
ORIGINALS = sorted(path.name for path in (SAMPLES / "originals").iterdir())


@pytest.fixture(scope="module")
def results(stack: Stack) -> dict[str, Result]:
    """Results of all samples, by their path below samples/."""
    prefix = f"{SAMPLES}/"
    with Shield(stack.url, stack.key) as shield:
        return {(result.custom_id or "").removeprefix(prefix): result for result in shield.scan(SAMPLES)}


@pytest.mark.parametrize("pair", PAIRS, ids=[pair["fake"] for pair in PAIRS])
def test_a_face_swap_scores_above_its_original(results: dict[str, Result], pair: dict[str, str]) -> None:
    fake, original = results[pair["fake"]].score, results[pair["original"]].score
    assert fake is not None
    assert original is not None
    assert fake > original


@pytest.mark.parametrize("name", ORIGINALS)
def test_an_original_is_clear(results: dict[str, Result], name: str) -> None:
    assert results[f"originals/{name}"].verdict == "clear"


def test_a_landscape_has_no_face(results: dict[str, Result]) -> None:
    assert results["landscape.jpg"].verdict == "no_face"


def test_a_photo_that_lies_on_its_side_is_judged_as_the_upright_one(results: dict[str, Result]) -> None:
    assert results["rotated.jpg"].verdict == results["originals/hopper.jpg"].verdict
    assert results["rotated.jpg"].score == pytest.approx(results["originals/hopper.jpg"].score, abs=0.1)
