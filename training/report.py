"""The whole table: the shipped weights through the shipped engines, kind by kind, with bars.

`python -m training report [--out docs/evaluation.json] [--quick N]`; `make evaluate` runs it. A row says whether its
kind was trained on. DFDC's split is by video, not by person: the same actors recur, so its figures are optimistic.
"""

import argparse
import dataclasses
import datetime as dt
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.crops import cut, resize
from pipeline.weights import WeightsError
from training.bars import Bar
from training.data import DataError, Example, Pixels, data_folder, decode_rgb, open_pictures, read_manifest
from training.metrics import Labels, Scores, ece, figures, tpr_at
from training.subject import CARD, Subject, open_subject, pixel_logits
from training.swapset import Portrait, pairs, portraits

OUT = Path("docs/evaluation.json")
LEFT_OUT = Path("docs/leave-one-out.json")
FFHQ = Path("var/data/ffhq")
SWAPS = 500  # people whose photos are swapped


@dataclass
class Report:
    """Figures as they come in: rows of the table, raw scores for the pictures, and the bars."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[str, tuple[Labels, Scores]] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)

    def add(self, kind: str, trained: str, labels: Labels, scores: Scores) -> dict[str, Any]:
        """Measure one kind and keep its scores; the row."""
        row: dict[str, Any] = {"kind": kind, "trained on it": trained, **dataclasses.asdict(figures(labels, scores))}
        row["tpr_at_0.1_fpr"] = tpr_at(labels, scores, 0.001)
        self.rows.append(row)
        self.scores[kind] = (labels, scores)
        _say(
            f"{kind:34} {trained:8} AUC {row['auc']:.4f} ({row['auc_low']:.3f} to {row['auc_high']:.3f})"
            f"  EER {row['eer']:.3f}  TPR@1% {row['tpr_at_1_fpr']:.3f}  TPR@0.1% {row['tpr_at_0.1_fpr']:.3f}"
            f"  ECE {row['ece']:.3f}  {row['real']} real, {row['fake']} fake"
        )
        return row


def measure(subject: Subject, quick: int) -> Report:
    """Every figure of the table. `quick`: at most so many pictures of each source, for a trial. Raises DataError."""
    report = Report()
    _dfdc(report, subject, quick)
    _stylegan(report, subject, quick)
    people = list(portraits(subject, data_folder() / "lfw_250.zip", quick))
    _honest(report, subject, people)
    _swaps(report, subject, people[: quick or SWAPS])
    _left_out(report)
    return report


def _dfdc(report: Report, subject: Subject, quick: int) -> None:
    root, manifest = (data_folder() / f"dfdc_faces_224.{suffix}" for suffix in ("zip", "csv"))
    examples = _some(read_manifest(manifest, "test"), quick)
    pictures = open_pictures(root)
    crops = [decode_rgb(pictures.read(e.file), e.file) for e in examples]
    labels = np.array([e.label for e in examples])
    logits = pixel_logits(subject.engine, crops)
    scores = subject.card.calibration.score(logits)
    row = report.add("DFDC face swaps, test", "yes", labels, scores)
    row["ece_before_calibration"] = ece(labels, 1 / (1 + np.exp(-logits.astype(np.float64))))
    found = float((scores[labels == 1] >= subject.card.thresholds["fake"]).mean())
    row["found_at_fake_threshold"] = found
    report.bars += [
        Bar("dfdc_auc", row["auc"], 0.93, aim=0.96),
        Bar("dfdc_eer", row["eer"], 0.15, aim=0.10, at_most=True),
        Bar("dfdc_ece", row["ece"], 0.05, aim=0.03, at_most=True),
        Bar("dfdc_found_at_fake_threshold", found, 0.30, aim=0.55),
    ]
    report.other["slices"] = dict(_slices(examples, crops, labels, scores))
    report.other["robustness"] = _robustness(report, subject, crops, labels, row["auc"])


def _slices(
    examples: list[Example], crops: list[Pixels], labels: Labels, scores: Scores
) -> Iterator[tuple[str, dict[str, Any]]]:
    """DFDC test by the face's width in its frame, and by darkness (mean of 0..255)."""
    widths = np.array([e.source_width for e in examples])
    light = np.array([crop.mean() for crop in crops])
    for name, values, edges in (
        ("face width, pixels", widths, (0, 100, 150, 220, 9999)),
        ("mean brightness", light, (0, 70, 100, 130, 256)),
    ):
        for low, high in itertools.pairwise(edges):
            inside = (values >= low) & (values < high)
            if len(set(labels[inside])) == 2:
                measured = figures(labels[inside], scores[inside])
                _say(f"  {name} {low} to {high}: AUC {measured.auc:.3f}, {measured.real} real, {measured.fake} fake")
                yield f"{name} {low} to {high}", dataclasses.asdict(measured)


def jpeg(crop: Pixels, quality: int) -> Pixels:
    """The crop compressed once more."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return decode_rgb(encoded.tobytes(), "re-encoded crop")


def halved(crop: Pixels) -> Pixels:
    """The crop at half its size: what a thumbnail keeps."""
    return resize(crop, crop.shape[1] // 2, crop.shape[0] // 2)


def blurred(crop: Pixels) -> Pixels:
    """The crop under a Gaussian blur of 1.5 pixels."""
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), 1.5), np.uint8)


HARMS: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG q90": lambda crop: jpeg(crop, 90),
    "JPEG q60": lambda crop: jpeg(crop, 60),
    "JPEG q40": lambda crop: jpeg(crop, 40),
    "half size": halved,
    "blur 1.5 px": blurred,
}
BARRED = {"JPEG q40": "auc_drop_jpeg_q40", "half size": "auc_drop_half_size"}


def _robustness(report: Report, subject: Subject, crops: list[Pixels], labels: Labels, auc: float) -> dict[str, float]:
    after = {}
    for harm, harmed in HARMS.items():
        after[harm] = figures(labels, subject.scores([harmed(crop) for crop in crops]), rounds=1).auc
        _say(f"  {harm}: AUC {after[harm]:.4f}, falls by {auc - after[harm]:.4f}")
        if harm in BARRED:
            report.bars.append(Bar(BARRED[harm], auc - after[harm], 0.05, aim=0.03, at_most=True))
    return after


def _stylegan(report: Report, subject: Subject, quick: int) -> None:
    examples = _some(read_manifest(FFHQ.with_suffix(".csv"), "test"), quick)
    pictures = open_pictures(FFHQ)
    scores = subject.scores([decode_rgb(pictures.read(e.file), e.file) for e in examples])
    row = report.add("StyleGAN against FFHQ, held out", "yes", np.array([e.label for e in examples]), scores)
    report.bars.append(Bar("stylegan_auc", row["auc"], 0.97, aim=0.99))


def _honest(report: Report, subject: Subject, people: list[Portrait]) -> None:
    """LFW: how many honest people are flagged, and how far the frame of the crop moves a score."""
    crops = [subject.crop(person.photo, person.face) for person in people]
    scores = subject.scores(crops)
    thresholds = subject.card.thresholds
    flagged = {name: float((scores >= at).mean()) for name, at in thresholds.items()}
    report.other["lfw"] = {"faces": len(scores), "flagged": flagged, "mean_score": float(scores.mean())}
    report.scores["LFW, honest people"] = (np.zeros(len(scores), np.int64), scores)
    _say(
        f"LFW, honest, never trained on: {len(scores)} faces, " + ", ".join(f"{k} {v:.4f}" for k, v in flagged.items())
    )
    report.bars.append(Bar("lfw_flagged_fake", flagged["fake"], 0.03, aim=0.01, at_most=True))
    side = round(float(np.median([max(p.face[2] - p.face[0], p.face[3] - p.face[1]) for p in people])))
    centred = [_centre(person.photo, side) for person in people]
    moved = np.abs(subject.scores(centred) - scores)
    report.other["framing"] = {"mean": float(moved.mean()), "centre_side": side}
    _say(f"  detector's crop against the centre crop of {side} px: scores differ by {moved.mean():.4f} on average")
    report.bars.append(Bar("framing_difference", float(moved.mean()), 0.08, at_most=True))


def _centre(photo: Pixels, side: int) -> Pixels:
    """The square of this side in the middle of a photo: where the data set puts the face."""
    height, width = photo.shape[:2]
    return cut(photo, (width - side) // 2, (height - side) // 2, side)


def _swaps(report: Report, subject: Subject, people: list[Portrait]) -> None:
    """Each blending alone, then both: every swap against its own original."""
    both: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for blend in ("feather", "poisson"):
        made = list(pairs(subject, people, blend))
        both.append((subject.scores([p.original for p in made]), subject.scores([p.swap for p in made])))
        _swap_row(report, f"LFW landmark swaps, {blend}", *both[-1])
    before, after = (np.concatenate(parts) for parts in zip(*both, strict=True))
    row = _swap_row(report, "LFW landmark swaps, both", before, after)
    report.bars.append(Bar("lfw_swaps_auc", row["auc"], 0.85, aim=0.95))


def _swap_row(report: Report, kind: str, before: Scores, after: Scores) -> dict[str, Any]:
    labels = np.repeat([0, 1], [len(before), len(after)])
    row = report.add(kind, "no", labels, np.concatenate([before, after]))
    row["above_its_original"] = float((after > before).mean())
    _say(f"  {row['above_its_original']:.3f} of the swaps score above their own original")
    return row


def _left_out(report: Report) -> None:
    """Models trained without a kind of fake, measured on it (`leave-one-out` writes the figures)."""
    if not LEFT_OUT.exists():
        return
    report.other["left_out"] = left = json.loads(LEFT_OUT.read_text(encoding="utf-8"))
    for name, measured in left.items():
        for test, row in measured["tests"].items():
            _say(f"model {name} ({measured['crops_seen']} crops) on {test}: AUC {row['auc']:.4f}")
    if "self-blends" in left:
        found = left["self-blends"]["tests"]["DFDC face swaps, test"]["auc"]
        report.bars.append(Bar("self_blends_only_dfdc_auc", found, 0.62, aim=0.72))


def _some(examples: list[Example], count: int) -> list[Example]:
    """All, or `count` drawn evenly from the list, so that both labels stay."""
    return examples[:: max(1, len(examples) // count)] if count else examples


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--card", type=Path, default=CARD, help="the weights card; default: the one that ships")
    parser.add_argument("--out", type=Path, default=OUT, help="where all figures go as JSON, pictures beside it")
    parser.add_argument("--quick", type=int, default=0, metavar="N", help="a trial on N pictures of each source")


def main(args: argparse.Namespace) -> int:
    """Run the command: table, pictures, bars. 1 when a bar is not held, 2 when the data cannot be used."""
    from training import track  # MLRun and matplotlib are there in the training environment alone
    from training.plots import PICTURES, draw

    try:
        subject = open_subject(args.card)
        report = measure(subject, args.quick)
    except (DataError, WeightsError) as error:
        sys.stderr.write(f"{error}\n`python -m training prepare` makes what lies under var/data.\n")
        return 2
    card = subject.card
    record = {
        "weights": {"name": card.name, "version": card.version, "sha256": card.weights_sha256},
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "pictures_per_source": args.quick or "all",
        "rows": report.rows,
        **report.other,
        "bars": [dataclasses.asdict(bar) for bar in report.bars],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    pictures = args.out.parent / "pictures"
    draw(report.scores, report.other["robustness"], report.rows[0]["auc"], pictures)
    with track.run("report", {"card": str(args.card), "sha256": card.weights_sha256}) as run:
        for bar in report.bars:
            run.log_result(bar.name, bar.value)
        for kept in (args.out, *(pictures / f"{name}.png" for name in PICTURES)):
            run.log_artifact(kept.stem, local_path=str(kept))
    for bar in report.bars:
        _say("\n".join(bar.lines()))
    return 0 if all(bar.holds for bar in report.bars) else 1
