"""The model card: `python -m training model-card` writes docs/model-card.md.

Everything with a figure in it comes from the weights card, docs/evaluation.json (`report`) and docs/leave-one-out.json
(`leave-one-out`); what is fixed below are the words between the tables. Figures of other weights are refused.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.weights import MODELS, WeightsCard, WeightsError, load_card
from training.calibration import FLAGGED_AT_MOST
from training.data import DataError

CARD = MODELS / "shield-lite0.json"
EVALUATION = Path("docs/evaluation.json")
PAGE = Path("docs/model-card.md")

HEAD = """Generated from the weights card and the figures of `make evaluate` by `python -m training model-card`:
change those, not this page."""

USE = """## What it is for

To sort photos for people who then look: a score orders a queue, a threshold decides what enters it. It scores one face
crop at a time and knows nothing of the photo around it, of the account that posted it, or of other frames of a video.

Not for proof. A high score is a reason to look, a low one is no sign that a photo is real, and nobody should lose
anything by a score alone."""

KINDS_NOTE = """The DFDC split is by video, not by person: the same actors recur in training and test, so its figures
are optimistic, and some of its labels are wrong. A kind with `no` was never trained on: it says more about photos of
tomorrow than the others do."""

THRESHOLDS_NOTE = """The default policy takes `fake` and `suspect` from here; `fake_strict` is for those who would
rather miss a fake. In a source with fewer than a thousand honest validation faces it lies above every one of them."""

WEAKNESSES = """## Weaknesses

- Kinds of forgery that were not trained on may not be found at all. Diffusion, face re-enactment, lip-sync, retouching
  and local edits by hand are in no row above.
- Whole-image generators were trained on through one family, StyleGAN; others leave other traces.
- How errors spread over age, skin and sex was not measured: the data carries no such notes.
- Compression, blur and size move scores, as the tables say.
- Faces under 24 pixels are not judged.
- Nothing was hardened against somebody who has these weights and wants to pass."""

PICTURES = (
    ("roc.png", "ROC of every kind; the axis of honest faces flagged is logarithmic"),
    ("calibration.png", "Score against the share of fakes"),
    ("scores.png", "Scores of real and fake faces"),
    ("robustness.png", "AUC on DFDC test after what uploads suffer"),
)


def page(card: WeightsCard, evaluation: dict[str, Any]) -> str:
    """The whole page as Markdown.

    Raises DataError where the figures are of other weights, of a trial run, or not what `report` writes.
    """
    if evaluation.get("weights", {}).get("sha256") != card.weights_sha256:
        raise DataError(f"the figures are not those of {card.name} {card.version}: run `make evaluate` again")
    if evaluation["pictures_per_source"] != "all":
        raise DataError("the figures are those of a trial with --quick: run `make evaluate`")
    try:
        parts = [f"# Model card: {card.name} {card.version}", HEAD, *_identity(card), USE, *_measured(evaluation)]
    except KeyError as error:
        raise DataError(f"the figures lack {error}: run `make evaluate` again") from error
    return "\n\n".join([*parts, WEAKNESSES]) + "\n"


def _identity(card: WeightsCard) -> Iterator[str]:
    size = card.input_size
    score = f"sigmoid(logit / {card.calibration.temperature:.4f} + {card.calibration.bias:.4f})"
    yield _table(
        ("", ""),
        [
            *((f"`{f['file']}`", f"sha256 `{f['sha256']}`") for f in card.files.values()),
            ("input", f"RGB face crop of {size} x {size} px, mean {_one(card.mean)}, std {_one(card.std)} of 0..255"),
            ("margin", f"{card.margin:g} of the box's longer side, added on each side"),
            ("score", f"{score}: calibrated P(fake), over both labels alike"),
            ("where from", card.source),
            ("licence", card.licence),
        ],
    )
    yield "## Data, terms, what was spent"
    yield _table(("", ""), [(name.replace("_", " "), text) for name, text in card.trained_on.items()])
    yield "## Thresholds"
    yield _table(
        ("threshold", "score", "honest validation faces that may reach it, in every source"),
        [
            (f"`{name}`", f"{at:.4f}", f"at most {_share(FLAGGED_AT_MOST[name])}")
            for name, at in card.thresholds.items()
        ],
    )
    yield THRESHOLDS_NOTE
    flagged = card.figures["validation_honest_flagged_fake"]
    yield "Honest validation faces that reach `fake`: " + ", ".join(f"{k} {v}" for k, v in flagged.items()) + "."


def _measured(evaluation: dict[str, Any]) -> Iterator[str]:
    yield "## What it finds"
    yield (
        f"Measured on {evaluation['date']} with the shipped weights through the shipped engines. AUC with its 95 %"
        " bootstrap interval; TPR is the share of fakes found where that share of honest faces is flagged."
    )
    yield _table(
        ("kind", "trained on it", "real, fake", "AUC", "EER", "TPR at 1 %", "TPR at 0.1 %", "ECE"),
        [
            (row["kind"], row["trained on it"], _faces(row), _auc(row), *_figures(row, "tpr_at_0.1_fpr"))
            for row in evaluation["rows"]
        ],
    )
    yield KINDS_NOTE
    yield "\n".join(_remarks(evaluation["rows"]))
    yield from _honest(evaluation)
    yield from _conditions(evaluation)
    yield from _left_out(evaluation.get("left_out", {}))
    yield "## What it promises"
    yield _table(
        ("bar", "measured", "has to be", "aim"),
        [
            (f"`{bar['name']}`", f"{bar['value']:.4f}", _limit(bar, "target"), _limit(bar, "aim"))
            for bar in evaluation["bars"]
        ],
    )
    yield "## Pictures"
    yield from (f"![{said}](pictures/{name})" for name, said in PICTURES)


def _remarks(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What only some rows have."""
    for row in rows:
        if "found_at_fake_threshold" in row:
            yield f"- {row['kind']}: {_share(row['found_at_fake_threshold'])} of the fakes reach the `fake` threshold."
        if "ece_before_calibration" in row:
            before, after = row["ece_before_calibration"], row["ece"]
            yield f"- {row['kind']}: ECE {before:.3f} before calibration, {after:.3f} after."
        if "above_its_original" in row:
            yield f"- {row['kind']}: {_share(row['above_its_original'])} of the swaps score above their own original."


def _honest(evaluation: dict[str, Any]) -> Iterator[str]:
    people, framing = evaluation["lfw"], evaluation["framing"]
    yield "## Honest people"
    yield (
        f"LFW: news photos of {people['faces']:,} people, never trained on and never used to set a threshold; mean"
        f" score {people['mean_score']:.3f}."
    )
    yield _table(("threshold", "flagged"), [(f"`{name}`", _share(at)) for name, at in people["flagged"].items()])
    yield (
        f"Framing: the detector's crop and the centre crop of {framing['centre_side']} px of the same photo differ in"
        f" score by {framing['mean']:.3f} on average."
    )


def _conditions(evaluation: dict[str, Any]) -> Iterator[str]:
    """DFDC test after harm, and in slices."""
    before = evaluation["rows"][0]["auc"]
    yield "## Harm and slices, on DFDC test"
    yield _table(
        ("harm", "AUC", "falls by"),
        [("as it is", f"{before:.3f}", "")]
        + [(harm, f"{auc:.3f}", f"{before - auc:.3f}") for harm, auc in evaluation["robustness"].items()],
    )
    yield _table(
        ("slice", "real, fake", "AUC", "EER", "TPR at 1 %", "ECE"),
        [(name, _faces(row), _auc(row), *_figures(row)) for name, row in evaluation["slices"].items()],
    )


def _left_out(models: dict[str, Any]) -> Iterator[str]:
    if not models:
        return
    yield "## Kinds left out"
    yield "Models that do not ship, each trained without a kind of fake (training/configs):"
    yield _table(
        ("model", "crops seen", "measured on", "AUC"),
        [
            (name, f"{model['crops_seen']:,} of {model['input_size']} px", test, _auc(row))
            for name, model in models.items()
            for test, row in model["tests"].items()
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _auc(row: dict[str, Any]) -> str:
    return f"{row['auc']:.3f} ({row['auc_low']:.3f} to {row['auc_high']:.3f})"


def _faces(row: dict[str, Any]) -> str:
    return f"{row['real']}, {row['fake']}"


def _figures(row: dict[str, Any], *more: str) -> list[str]:
    return [f"{row[name]:.3f}" for name in ("eer", "tpr_at_1_fpr", *more, "ece")]


def _share(share: float) -> str:
    return f"{share * 100:.3g} %"


def _limit(bar: dict[str, Any], name: str) -> str:
    return "" if bar[name] is None else f"{'at most' if bar['at_most'] else 'at least'} {bar[name]:g}"


def _one(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in dict.fromkeys(values))


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `report` wrote. Raises DataError."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): `make evaluate` writes it") from error
    return record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--card", type=Path, default=CARD, help="the weights card; default: the one that ships")
    parser.add_argument("--evaluation", type=Path, default=EVALUATION, help="the figures that `report` wrote")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")


def main(args: argparse.Namespace) -> int:
    """Run the command; 2 when card or figures cannot be used."""
    try:
        text = page(load_card(args.card), read_evaluation(args.evaluation))
    except (DataError, WeightsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    args.out.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{args.out}\n")
    return 0
