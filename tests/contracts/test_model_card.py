"""docs/model-card.md is what `python -m training model-card` writes, from figures of the weights that ship."""

from pathlib import Path

from pipeline.weights import load_card
from training.modelcard import CARD, EVALUATION, PAGE, page, read_evaluation

ROOT = Path(__file__).parents[2]


def test_the_figures_are_those_of_the_shipped_weights_measured_whole() -> None:
    evaluation, card = read_evaluation(ROOT / EVALUATION), load_card(CARD)
    assert evaluation["weights"] == {"name": card.name, "version": card.version, "sha256": card.weights_sha256}
    assert evaluation["pictures_per_source"] == "all"


def test_the_page_is_generated_never_written_by_hand() -> None:
    written = page(load_card(CARD), read_evaluation(ROOT / EVALUATION))
    assert (ROOT / PAGE).read_text() == written, "run `python -m training model-card`"
