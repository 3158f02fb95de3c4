import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.weights import WeightsCard, load_card
from training.data import DataError
from training.modelcard import CARD, add_arguments, main, page

FIGURES = {"auc": 0.91, "auc_low": 0.9, "auc_high": 0.92, "eer": 0.2, "tpr_at_1_fpr": 0.4, "ece": 0.03}
ROW = {**FIGURES, "real": 11, "fake": 12}
BAR = {"name": "dfdc_auc", "value": 0.91, "target": 0.93, "aim": None, "at_most": False}


@pytest.fixture
def card() -> WeightsCard:
    return load_card(CARD)


@pytest.fixture
def evaluation(card: WeightsCard) -> dict[str, Any]:
    return {
        "weights": {"sha256": card.weights_sha256},
        "date": "2000-01-02",
        "pictures_per_source": "all",
        "rows": [{"kind": "painted", "trained on it": "no", **ROW, "tpr_at_0.1_fpr": 0.1234}],
        "lfw": {"faces": 1421, "flagged": {"fake": 0.0056}, "mean_score": 0.2},
        "framing": {"mean": 0.0456, "centre_side": 110},
        "robustness": {"JPEG q40": 0.87},
        "slices": {"dark": ROW},
        "left_out": {"self-blends": {"crops_seen": 24000, "input_size": 160, "tests": {"painted": ROW}}},
        "bars": [BAR],
    }


def test_every_figure_stands_on_the_page(card: WeightsCard, evaluation: dict[str, Any]) -> None:
    text = page(card, evaluation)
    assert "| painted | no | 11, 12 | 0.910 (0.900 to 0.920) | 0.200 | 0.400 | 0.123 | 0.030 |" in text
    assert "| `fake` | 0.56 % |" in text
    assert "| JPEG q40 | 0.870 | 0.040 |" in text
    assert "| dark | 11, 12 | 0.910" in text
    assert "| self-blends | 24,000 of 160 px | painted | 0.910" in text
    assert "| `dfdc_auc` | 0.9100 | at least 0.93 |  |" in text
    assert card.weights_sha256 in text
    for name, at in card.thresholds.items():
        assert f"| `{name}` | {at:.4f} |" in text
    for said in card.trained_on.values():
        assert said in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": {"sha256": "0" * 64}}, "not those of"),
        ({"pictures_per_source": 60}, "a trial"),
        ({"bars": [{"name": "dfdc_auc"}]}, "lack 'value'"),
    ],
)
def test_figures_that_are_stale_or_partial_are_refused(
    card: WeightsCard, evaluation: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        page(card, evaluation | change)


def test_the_command_writes_the_page_or_says_what_is_missing(
    evaluation: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["--evaluation", str(tmp_path / "figures.json"), "--out", str(tmp_path / "card.md")])
    assert main(args) == 2
    assert "make evaluate" in capsys.readouterr().err
    args.evaluation.write_text(json.dumps(evaluation))
    assert main(args) == 0
    assert args.out.read_text().startswith("# Model card: shield-lite0 ")
