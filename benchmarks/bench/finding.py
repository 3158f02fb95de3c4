"""Faces found by each detector on photos with boxes that people drew (face_boxes), and photos a second.

A detection finds the free box that it overlaps most, if by at least half (intersection over union); a face's size is
the square root of its box's area. The detectors frame faces differently: recall is therefore given at a lesser overlap
too, at which the framing hardly counts; what finds no box even so is a false one.
"""

import itertools
import statistics
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.bench.contender import CACHE, Contender, contending
from benchmarks.bench.effort import Effort, progress
from benchmarks.bench.photos import boxes_by_photo, data_folder
from pipeline.detections import Floats, overlaps
from training.bars import Bar

DETECTORS: Final = {
    "shield-faces": "Deepfake Shield",
    "blazeface-back": "LiteRT BlazeFace back, one pass",
    "blazeface-short": "LiteRT BlazeFace short, one pass",
    "mediapipe-full": "mediapipe, full range",
    "mediapipe-short": "mediapipe, short range",
    "mtcnn": "facenet-pytorch MTCNN",
}
EDGES: Final = (0, 32, 64, 128, 100_000)  # pixels
SURE: Final = 32  # pixels from which the bar is about
OVERLAP: Final = 0.5
LOOSE: Final = 0.3
TURN = 34  # photos

Found = tuple[Floats, Floats]  # the boxes that people drew [N, 4], those of a detector [M, 4]


def measure(effort: Effort) -> tuple[list[dict[str, Any]], list[Bar]]:
    """A row for each detector, and the bar."""
    drawn = boxes_by_photo()
    photos = _unpacked(sorted(drawn)[: effort.boxed_photos])
    found: dict[str, list[Found]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        detectors = [stack.enter_context(contending(name)) for name in DETECTORS]
        for start in range(0, len(photos), TURN):
            progress(f"other detectors, photo {start + 1} of {len(photos)}")
            turn = photos[start : start + TURN]
            for detector in detectors:
                pairs, taken = _turn(detector, turn, drawn)
                found[detector.name] += pairs
                seconds[detector.name].append(taken / len(turn))
    ours = seconds["shield-faces"]
    rows = [_row(title, found[name], seconds[name], ours) for name, title in DETECTORS.items()]
    recall = [_recall(found[name], SURE, EDGES[-1], OVERLAP) for name in ("blazeface-back", "blazeface-short")]
    ours_sure = _recall(found["shield-faces"], SURE, EDGES[-1], OVERLAP)
    return rows, [Bar(f"recall_from_{SURE}_px", ours_sure, round(max(recall), 4))]


def _unpacked(names: Sequence[str]) -> list[Path]:
    """The photos of these names, as files."""
    folder = CACHE / "face_boxes"
    with zipfile.ZipFile(data_folder() / "face_boxes.zip") as archive:
        for name in names:
            if not (folder / name).exists():
                archive.extract(name, folder)
    return [folder / name for name in names]


def _turn(
    detector: Contender, photos: Sequence[Path], drawn: dict[str, list[tuple[float, ...]]]
) -> tuple[list[Found], float]:
    """What a detector finds on these photos beside what people drew, and its seconds."""
    answer = detector.ask("find", photos=[str(photo) for photo in photos])
    pairs = [
        (np.array(drawn[photo.name], np.float32), np.array(boxes, np.float32).reshape(-1, 4))
        for photo, boxes in zip(photos, answer["boxes"], strict=True)
    ]
    return pairs, answer["seconds"]


def _row(title: str, found: Sequence[Found], seconds: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    false = sum(int((matched(drawn, boxes, LOOSE) < 0).sum()) for drawn, boxes in found)
    return {
        "detector": title,
        **{
            f"recall_{f'to_{high}' if high < EDGES[-1] else f'from_{low}'}_px": _recall(found, low, high, OVERLAP)
            for low, high in itertools.pairwise(EDGES)
            if _faces(found, low, high)
        },
        "recall": _recall(found, 0, EDGES[-1], OVERLAP),
        "recall_at_lesser_overlap": _recall(found, 0, EDGES[-1], LOOSE),
        "false_per_photo": false / len(found),
        "photos_per_second": 1 / statistics.median(seconds),
        "times_ours": statistics.median(our / their for our, their in zip(ours, seconds, strict=True)),
    }


def _recall(found: Sequence[Found], low: float, high: float, overlap: float) -> float:
    """The share of the drawn boxes of this size that are found."""
    hits = 0
    for drawn, boxes in found:
        taken = matched(drawn, boxes, overlap)
        hits += int(_counted(drawn, low, high)[taken[taken >= 0]].sum())
    return hits / _faces(found, low, high)


def _faces(found: Sequence[Found], low: float, high: float) -> int:
    return sum(int(_counted(drawn, low, high).sum()) for drawn, _ in found)


def _counted(drawn: Floats, low: float, high: float) -> Any:
    """Which of the drawn boxes [N, 4] are of this size: bool [N]."""
    sides = np.sqrt((drawn[:, 2:4] - drawn[:, 0:2]).prod(axis=1))
    return (sides >= low) & (sides < high)


def matched(drawn: Floats, boxes: Floats, overlap: float) -> Any:
    """For each detection [M, 4], best first, the index of the drawn box [N, 4] that it finds, or -1: int [M]."""
    shared = overlaps(boxes, drawn)
    taken = np.full(len(boxes), -1)
    for place, row in enumerate(shared):
        best = int(row.argmax())
        if row[best] >= overlap:
            taken[place] = best
            shared[:, best] = 0
    return taken
