"""How wide a crop should be: `python -m training margin [--card FILE]`.

Measures the margin of `pipeline.crops` against the score: at each margin, how well the shipped weights tell face swaps
between held-out FFHQ people (training/swaps.py, which training does not use) from their originals, and StyleGAN's
portraits from FFHQ's, whole photos through the detector. And how DFDC's crops are framed, which training takes as they
are: the detector's box against the crop.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.faces import FaceDetector, as_box
from pipeline.weights import WeightsError
from training.data import DataError, Example, Pixels, data_folder, decode_rgb, open_pictures, read_manifest, read_rgb
from training.facecrops import photo_names, split_of
from training.metrics import figures
from training.subject import CARD, Subject, open_subject
from training.swaps import encode
from training.swapset import Portrait, pairs

OUT = Path("docs/margin.json")
MARGINS = (0.0, 0.05, 0.1, 0.15, 0.2)  # of the box's longer side, on each side
PEOPLE = 120
DFDC_CROPS = 300


def held_out(subject: Subject, root: Path, label: str, count: int) -> list[Portrait]:
    """The first `count` photos of a label that no training has seen (split val or test), re-encoded as swaps are."""
    pictures = open_pictures(root)
    found: list[Portrait] = []
    for name in photo_names(root):
        group = name.replace("/", "_").rsplit(".", 1)[0]
        if not name.startswith(f"{label}/") or split_of(f"{group}.jpg") == "train":
            continue
        photo = decode_rgb(encode(decode_rgb(pictures.read(name), name)), name)
        face = subject.face(photo)
        if face is not None:
            found.append(Portrait(name, photo, face))
        if len(found) == count:
            break
    return found


def at_margin(subject: Subject, margin: float, people: list[Portrait], generated: list[Portrait]) -> dict[str, Any]:
    """The figures of a margin: AUC of swaps and of generated portraits, each with its interval, and honest scores."""
    framed = dataclasses.replace(subject, card=dataclasses.replace(subject.card, margin=margin))
    made = list(pairs(framed, people, "feather"))
    before, after = (framed.scores([getattr(pair, kind) for pair in made]) for kind in ("original", "swap"))
    fake = framed.scores([framed.crop(person.photo, person.face) for person in generated])
    return {
        "margin": margin,
        "swaps": _auc(before, after),
        "stylegan": _auc(before, fake),
        "honest_mean_score": float(before.mean()),
        "honest_flagged_fake": float((before >= subject.card.thresholds["fake"]).mean()),
    }


def _auc(real: NDArray[np.float64], fake: NDArray[np.float64]) -> dict[str, float]:
    measured = figures(np.repeat([0, 1], [len(real), len(fake)]), np.concatenate([real, fake]))
    return {"auc": measured.auc, "low": measured.auc_low, "high": measured.auc_high, "pairs": len(fake)}


def box_sides(detector: FaceDetector, crops: Iterator[Pixels]) -> NDArray[np.float64]:
    """The detector's box in each square crop, its longer side as a fraction of the crop's; crops without are left out.

    A border is mirrored around the crop first: a face that fills its picture is not found.
    """
    sides = []
    for crop in crops:
        side = crop.shape[0]
        border = side // 4
        padded = cv2.copyMakeBorder(crop, border, border, border, border, cv2.BORDER_REFLECT_101)
        boxes = [as_box(found) for found in detector.find([np.asarray(padded, np.uint8)])[0]]
        middle = border + side / 2
        ours = [b for b in boxes if b.left < middle < b.left + b.width and b.top < middle < b.top + b.height]
        if ours:
            sides.append(max(ours[0].width, ours[0].height) / side)
    return np.array(sides)


def dfdc_framing(detector: FaceDetector, count: int) -> dict[str, Any]:
    """Box against crop on DFDC's test split: quartiles of the ratio, and the margin that its median stands for."""
    manifest = data_folder() / "dfdc_faces_224.csv"
    examples: Sequence[Example] = read_manifest(manifest, "test")
    examples = examples[:: max(1, len(examples) // count)][:count]
    pictures = open_pictures(manifest.with_suffix(".zip"))
    sides = box_sides(detector, (read_rgb(example, pictures) for example in examples))
    quarter, median, three = (float(x) for x in np.percentile(sides, [25, 50, 75]))
    return {
        "crops": len(examples),
        "found": len(sides),
        "box_to_crop": {"quarter": quarter, "median": median, "three_quarters": three},
        "margin": (1 / median - 1) / 2,
    }


def measure(subject: Subject, count: int) -> dict[str, Any]:
    """All figures, printed as they come. Raises DataError."""
    root = data_folder() / "ffhq_stylegan_256.zip"
    people, generated = (held_out(subject, root, label, count) for label in ("real", "fake"))
    rows = []
    for margin in MARGINS:
        row = at_margin(subject, margin, people, generated)
        rows.append(row)
        kinds = (
            f"{kind} {row[kind]['auc']:.3f} ({row[kind]['low']:.3f} to {row[kind]['high']:.3f})"
            for kind in ("swaps", "stylegan")
        )
        _say(
            f"margin {margin:.2f}  AUC {', '.join(kinds)}"
            f"  honest faces: mean score {row['honest_mean_score']:.3f}, flagged {row['honest_flagged_fake']:.3f}"
        )
    framing = dfdc_framing(subject.detector, DFDC_CROPS)
    quarter, median, three = framing["box_to_crop"].values()
    _say(
        f"DFDC's crops: box / crop {median:.3f} (middle half {quarter:.3f} to {three:.3f}), a margin of"
        f" {framing['margin']:.3f}; {framing['found']} of {framing['crops']} faces found"
    )
    best = max(rows, key=lambda row: float(row["swaps"]["auc"]))["margin"]
    _say(f"best margin for swaps {best:.2f}, shipped {subject.card.margin:.2f}")
    card = subject.card
    weights = {"name": card.name, "version": card.version, "sha256": card.weights_sha256}
    return {"weights": weights, "shipped_margin": card.margin, "best_for_swaps": best, "rows": rows, "dfdc": framing}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--card", type=Path, default=CARD, help="the weights card; default: the one that ships")
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"photos of each label (default: {PEOPLE})")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON file to write")


def main(args: argparse.Namespace) -> int:
    """Run the command; 2 when the data or the weights cannot be used."""
    try:
        record = measure(open_subject(args.card), args.people)
    except (DataError, WeightsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    args.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0
