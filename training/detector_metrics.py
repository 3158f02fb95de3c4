"""How well boxes are found: matching, average precision, recall, false positives; two detectors compared.

Boxes that do not count for a figure (another size, another kind) are ignored: to find one is neither a hit nor a false
positive, to miss one is no miss. What matches no box at all is a false positive for every figure.
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.detections import SCORE, Floats, overlaps
from pipeline.engine import OnnxEngine
from pipeline.faces import DetectorSettings, FaceDetector
from pipeline.weights import MODELS, load_card
from training.data import DataError, Pictures, decode_rgb, open_pictures
from training.detector_data import BoxedPhoto, Framing, fit_framing, sides_of
from training.facecrops import LANDMARKS, photo_names

Counted = NDArray[np.bool_]
KEEP = DetectorSettings().keep
SAME = 0.3  # overlap from which a box is the face's, where it is only asked whether the face was found
SIZES = (0, 16, 32, 64, 10_000)  # pixels: edges of the slices by size
KINDS = {"con_mascarilla": "masked", "sin_mascarilla": "unmasked", "mascarilla_mal_puesta": "badly worn mask"}
PORTRAITS = 200  # photos, spread evenly over all


@dataclass(frozen=True, slots=True)
class Matches:
    """The detections of one photo that count: scores [K] and whether each is a hit [K]; how many faces there are."""

    scores: Floats
    hits: NDArray[np.bool_]
    faces: int


def match(found: Floats, boxes: Floats, counted: Counted, overlap: float) -> Matches:
    """Match detections [K, 17] to annotated boxes [N, 4] of one photo, the best detection first.

    Each takes the free counted box [N] that it overlaps most, by at least `overlap`. Failing that it is ignored where
    it overlaps an ignored box so much, and else a false positive; so is a second detection of one face.
    """
    ranked = found[np.argsort(-found[:, SCORE], kind="stable")]
    shared = overlaps(ranked, boxes)
    shared[shared < overlap] = 0
    free = counted.copy()
    kept, hits = np.ones(len(ranked), np.bool_), np.zeros(len(ranked), np.bool_)
    for row, with_boxes in enumerate(shared):
        open_to = np.where(free, with_boxes, 0)
        if open_to.max(initial=0) > 0:
            free[open_to.argmax()] = False
            hits[row] = True
        elif with_boxes[~counted].max(initial=0) > 0:
            kept[row] = False
    return Matches(ranked[kept, SCORE], hits[kept], int(counted.sum()))


def average_precision(matches: Sequence[Matches]) -> float:
    """Area under the precision-recall curve of many photos, interpolated at all points (PASCAL VOC 2010 and later)."""
    hits, faces = _ranked(matches)
    if not faces:
        raise ValueError("no face counts: average precision means nothing")
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from_here[hits].sum() / faces)


def recall_and_false(matches: Sequence[Matches], threshold: float) -> tuple[float, float]:
    """The share of faces found, and false positives a photo, by detections that score at least `threshold`."""
    found = sum(int((m.hits & (m.scores >= threshold)).sum()) for m in matches)
    false = sum(int((~m.hits & (m.scores >= threshold)).sum()) for m in matches)
    return found / sum(m.faces for m in matches), false / len(matches)


def recall_at_false(matches: Sequence[Matches], false: float) -> float:
    """The share of faces found at the threshold that lets at most `false` false positives a photo through."""
    hits, faces = _ranked(matches)
    allowed = np.cumsum(~hits) <= false * len(matches)
    return float(hits[allowed].sum() / faces)


def gain_interval(
    before: Sequence[Matches], after: Sequence[Matches], rounds: int = 300, seed: int = 0
) -> tuple[float, float]:
    """The 95 % bootstrap interval of the gain in average precision; the same photos are drawn for both."""
    rng = np.random.default_rng(seed)
    gains: list[float] = []
    while len(gains) < rounds:
        drawn = rng.integers(len(before), size=len(before))
        if any(before[i].faces for i in drawn):
            gains.append(average_precision([after[i] for i in drawn]) - average_precision([before[i] for i in drawn]))
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)


def _ranked(matches: Sequence[Matches]) -> tuple[NDArray[np.bool_], int]:
    """All photos' hits, best score first, and how many faces there are."""
    scores = np.concatenate([m.scores for m in matches])
    hits = np.concatenate([m.hits for m in matches])
    return hits[np.argsort(-scores, kind="stable")], sum(m.faces for m in matches)


def open_with(card: Path) -> FaceDetector:
    """The whole detector with this `back`. It reports what it would not keep as well: a curve needs all scores."""
    back, short = (OnnxEngine(load_card(path)) for path in (card, MODELS / "blazeface-short.json"))
    return FaceDetector(back, short, DetectorSettings(keep=0.0))


def find_faces(detector: FaceDetector, photos: Sequence[BoxedPhoto], pictures: Pictures) -> list[Floats]:
    """Detections [K, 17] of every photo; one at a time, as they differ in shape."""
    found = []
    for number, photo in enumerate(photos, start=1):
        found.append(detector.find([photo.pixels(pictures)])[0])
        if number % 10 == 0 or number == len(photos):
            sys.stderr.write(f"\r{number}/{len(photos)} photos" + ("\n" if number == len(photos) else ""))
    return found


def framing_of(photos: Sequence[BoxedPhoto], found: Sequence[Floats]) -> Framing:
    """How the detector frames these photos' faces, by those it is sure of. Raises DataError where there are none."""
    boxes, same = [], []
    for photo, detections in zip(photos, found, strict=True):
        sure = detections[detections[:, SCORE] >= KEEP]
        if len(sure):
            shared = overlaps(photo.boxes, sure)
            seen = shared.max(axis=1) >= SAME
            boxes.append(photo.boxes[seen])
            same.append(sure[shared.argmax(axis=1)[seen]])
    if sum(map(len, boxes)) < 2:
        raise DataError("the detector finds none of the boxed faces: are the boxes for these photos?")
    return fit_framing(np.concatenate(boxes), np.concatenate(same))


def look_at_portraits(detector: FaceDetector, root: Path) -> list[Floats | None]:
    """The best face [17] that would be kept of each of PORTRAITS photos; None where there is none."""
    pictures, names = open_pictures(root), photo_names(root)
    chosen = names[:: max(1, len(names) // PORTRAITS)][:PORTRAITS]
    found = [detector.find([decode_rgb(pictures.read(name), name)])[0] for name in chosen]
    return [faces[0] if len(faces) and faces[0, SCORE] >= KEEP else None for faces in found]


@dataclass(frozen=True, slots=True)
class Measured:
    """What two detectors find, with the weights that ship (before) and with each fold's own (after)."""

    photos: list[BoxedPhoto]
    before: list[Floats]
    after: list[Floats]
    portraits_before: list[Floats | None]
    portraits_after: list[list[Floats | None]]  # a list a fold: no portrait was trained on
    framings: list[Framing]


def compare(measured: Measured) -> dict[str, Any]:
    """All figures: a row a slice, false positives, portraits, what got worse, and the aims."""
    rows = [_row(measured, name, masks) for name, masks in _slices(measured.photos).items()]
    everything = [np.ones(len(photo.boxes), np.bool_) for photo in measured.photos]
    sure = [_matches(measured.photos, found, everything, SAME) for found in (measured.before, measured.after)]
    false = [recall_and_false(matches, KEEP)[1] for matches in sure]
    portraits = _portraits(measured)
    aims = {
        "detector_ap_after": _aim(rows[0]["ap50_before"], rows[0]["ap50_after"]),
        "detector_false_per_photo_after": _aim(false[0], false[1], at_most=True),
        "detector_portraits_found_after": _aim(portraits["found_before"], portraits["found_after_least"]),
    }
    worse = [
        f"{figure} of {row['slice']}"
        for row in rows
        for figure in ("ap50", "ap30", "recall")
        if row[f"{figure}_after"] < row[f"{figure}_before"]
    ]
    if false[1] > false[0]:
        worse.append("false positives")
    if portraits["found_after_least"] < portraits["found_before"]:
        worse.append("portraits")
    return {
        "how": f"ap50 and ap30 at IoU 0.5 and 0.3; recall and false positives at IoU {SAME} and a score of {KEEP}",
        "rows": rows,
        "false_per_photo": {"before": false[0], "after": false[1]},
        "recall_at_same_false": {
            "before": recall_at_false(sure[0], false[0]),
            "after": recall_at_false(sure[1], false[0]),
        },
        "portraits": portraits,
        "framings": [asdict(framing) for framing in measured.framings],
        "worse_in": worse,
        "aims": aims,
    }


def _aim(before: float, after: float, at_most: bool = False) -> dict[str, Any]:
    return {"before": before, "after": after, "at_most": at_most}


def _slices(photos: Sequence[BoxedPhoto]) -> dict[str, list[Counted]]:
    """Which boxes of every photo count, by the slice's name; slices without a face are left out."""
    slices = {"all": [np.ones(len(photo.boxes), np.bool_) for photo in photos]}
    for low, high in itertools.pairwise(SIZES):
        name = f"{low} to {high} px" if high < SIZES[-1] else f"from {low} px"
        slices[name] = [(sides_of(photo.boxes) >= low) & (sides_of(photo.boxes) < high) for photo in photos]
    for kind in sorted({kind for photo in photos for kind in photo.kinds}):
        slices[KINDS.get(kind, kind)] = [np.array([k == kind for k in photo.kinds]) for photo in photos]
    return {name: masks for name, masks in slices.items() if any(mask.any() for mask in masks)}


def _matches(
    photos: Sequence[BoxedPhoto], found: Sequence[Floats], counted: Sequence[Counted], overlap: float
) -> list[Matches]:
    return [
        match(detections, photo.boxes, mask, overlap)
        for photo, detections, mask in zip(photos, found, counted, strict=True)
    ]


def _row(measured: Measured, name: str, counted: list[Counted]) -> dict[str, Any]:
    row: dict[str, Any] = {"slice": name, "faces": sum(int(mask.sum()) for mask in counted)}
    for tag, overlap in (("50", 0.5), ("30", 0.3)):
        before, after = (
            _matches(measured.photos, found, counted, overlap) for found in (measured.before, measured.after)
        )
        row[f"ap{tag}_before"], row[f"ap{tag}_after"] = average_precision(before), average_precision(after)
        row[f"gain{tag}_low"], row[f"gain{tag}_high"] = gain_interval(before, after)
    row["recall_before"], row["recall_after"] = (recall_and_false(matches, KEEP)[0] for matches in (before, after))
    return row


def _portraits(measured: Measured) -> dict[str, float]:
    """Portraits in which a face is found, and how far the fine-tuned weights move its box and landmarks."""
    before = measured.portraits_before
    found = [sum(face is not None for face in faces) for faces in measured.portraits_after]
    pairs = [
        (old, new)
        for faces in measured.portraits_after
        for old, new in zip(before, faces, strict=True)
        if old is not None and new is not None
    ]
    shared = [float(overlaps(old[None], new[None])[0, 0]) for old, new in pairs]
    moved = [
        float(np.linalg.norm((new - old)[LANDMARKS].reshape(6, 2), axis=1).mean() / (old[2] - old[0]))
        for old, new in pairs
    ]
    return {
        "photos": len(before),
        "found_before": sum(face is not None for face in before),
        "found_after_least": min(found),
        "found_after_mean": float(np.mean(found)),
        "box_overlap_median": float(np.median(shared)),
        "landmarks_moved_median": float(np.median(moved)),  # of the box's width
    }
