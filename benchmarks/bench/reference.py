"""The reference: the same networks, thresholds and looks, in the plain way.

One photo after the other; Pillow decodes and resizes; eager torch in single precision with tensors as they come; a
forward pass for each scale. Written for this comparison, it shares the networks with the pipeline and nothing else.
"""

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from pipeline.blazeface import load_blazeface
from pipeline.classifier import load_classifier
from pipeline.faces import DetectorSettings
from pipeline.weights import MODELS, WeightsCard, load_card

MULTIPLE: Final = 32  # what the sides of `back`'s input are multiples of
STRIDES: Final = {"blazeface-back": 16, "blazeface-short": 8}

Array = Any  # numpy arrays of float


@dataclass(frozen=True, slots=True)
class Seen:
    """A face: left, top, right and bottom in the photo's pixels, the detector's score and P(fake)."""

    box: tuple[float, float, float, float]
    detection_score: float
    score: float


class Reference:
    """A contender that scans."""

    def __init__(self) -> None:
        back, short, classifier = (load_card(MODELS / f"{name}.json") for name in (*STRIDES, "shield-lite0"))
        self._back = (back, load_blazeface(back.file("safetensors"), "back"))
        self._short = (short, load_blazeface(short.file("safetensors"), "short"))
        self._classifier = (classifier, load_classifier(classifier.file("safetensors"), classifier.input_size))
        self._settings = DetectorSettings()

    def scan(self, photos: list[str]) -> dict[str, float]:
        """See Scanning.scan."""
        contents = [Path(photo).read_bytes() for photo in photos]
        processor, began = time.process_time(), time.perf_counter()
        faces = sum(len(self.faces_of(content)) for content in contents)
        return {
            "images": len(contents),
            "seconds": time.perf_counter() - began,
            "processor": time.process_time() - processor,
            "faces": faces,
        }

    def look(self, photo: str) -> list[list[float]]:
        """The faces of one file: left, top, right, bottom, the detector's score, P(fake)."""
        return [[*seen.box, seen.detection_score, seen.score] for seen in self.faces_of(Path(photo).read_bytes())]

    def faces_of(self, content: bytes) -> list[Seen]:
        """The faces of one photo, with their scores."""
        with Image.open(io.BytesIO(content)) as opened:
            photo = opened.convert("RGB")
        found = [self._look_again(photo, row) for row in _suppressed(self._propose(photo), self._settings.overlap)]
        sure = _without_parts([row for row in found if row[4] >= self._settings.keep], self._settings.part)
        kept = [row for row in (_clipped(row, photo) for row in sure) if min(row[2:4] - row[0:2]) >= 1]
        if not kept:
            return []
        card = self._classifier[0]
        crops = [_square(photo, row, card.margin, card.input_size) for row in kept]
        logits, _ = _forward(self._classifier, np.stack(crops))
        scores = card.calibration.score(logits[:, 0])
        return [
            Seen((float(row[0]), float(row[1]), float(row[2]), float(row[3])), float(row[4]), float(score))
            for row, score in zip(kept, scores, strict=True)
        ]

    def _propose(self, photo: Image.Image) -> list[Array]:
        """Rows of left, top, right, bottom and score, of every scale that is for this photo."""
        rows: list[Array] = []
        for longest, least in self._settings.scales:
            if max(photo.size) < least:
                continue
            factor = longest / max(photo.size)
            width, height = (max(1, round(side * factor)) for side in photo.size)
            canvas = np.zeros((-(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE, 3), np.uint8)
            canvas[:height, :width] = np.asarray(_resized(photo, width, height))
            shrunk = np.array([width / photo.width, height / photo.height] * 2)
            for row in _detections(self._back, canvas, self._settings.propose):
                is_part = longest > self._settings.scales[0][0] and max(row[2:4] - row[0:2]) > self._settings.small
                if not is_part:
                    rows.append(np.append(row[:4] / shrunk, row[4]))
        return rows

    def _look_again(self, photo: Image.Image, row: Array) -> Array:
        """The same row, its score the mean with that of the second look."""
        size, margin = self._short[0].input_size, self._settings.close_up
        side = max(row[2] - row[0], row[3] - row[1])
        half = (row[2:4] - row[0:2]) * size / (side * (1 + 2 * margin)) / 2
        here = np.concatenate([size / 2 - half, size / 2 + half])
        seen = _detections(self._short, _square(photo, row, margin, size), 0.0)
        again = max((other[4] for other in seen if _overlap(here, other) > self._settings.overlap), default=0.0)
        return np.append(row[:4], (row[4] + again) / 2)


def _forward(network: tuple[WeightsCard, Any], pixels: Array) -> tuple[Array, Array]:
    """Both outputs of uint8 [N, H, W, 3]."""
    card, module = network
    normal = (pixels.astype(np.float32) - np.array(card.mean, np.float32)) / np.array(card.std, np.float32)
    with torch.no_grad():
        first, second = module(torch.from_numpy(normal.transpose(0, 3, 1, 2).copy()))
    return first.numpy(), second.numpy()


def _detections(network: tuple[WeightsCard, Any], picture: Array, threshold: float) -> Array:
    """Rows [N, 5] of left, top, right, bottom (pixels of the picture) and score, of at least this score."""
    boxes, logits = _forward(network, picture[None])
    scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0], -80, 80)))
    centres = []
    for step, repeats in ((STRIDES[network[0].name], 2), (2 * STRIDES[network[0].name], 6)):
        rows, columns = (side // step for side in picture.shape[:2])
        ys, xs = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        centres.append(np.repeat((np.stack([xs.ravel(), ys.ravel()], axis=1) + 0.5) * step, repeats, axis=0))
    middle = np.concatenate(centres) + boxes[0, :, 0:2]
    half = boxes[0, :, 2:4] / 2
    found = np.concatenate([middle - half, middle + half, scores[:, None]], axis=1)
    return found[(scores >= threshold) & (half > 0).all(axis=1)]


def _suppressed(rows: list[Array], overlap: float) -> list[Array]:
    """Weighted non-maximum suppression: each best row takes in what overlaps it."""
    left = sorted(rows, key=lambda row: -row[4])
    kept = []
    while left:
        best = left[0]
        same = [row for row in left if row is best or _overlap(best, row) > overlap]
        weights = np.array([row[4] for row in same])
        box = (np.stack(same)[:, :4] * weights[:, None]).sum(axis=0) / weights.sum()
        kept.append(np.append(box, best[4]))
        left = [row for row in left if not any(row is other for other in same)]
    return kept


def _without_parts(rows: list[Array], share: float) -> list[Array]:
    """Without the rows of which more than this share lies in a better one."""
    ranked = sorted(rows, key=lambda row: -row[4])
    return [
        row
        for place, row in enumerate(ranked)
        if all(_shared(row, better) <= share * _area(row) for better in ranked[:place])
    ]


def _overlap(one: Array, other: Array) -> float:
    """Intersection over union."""
    shared = _shared(one, other)
    whole = _area(one) + _area(other) - shared
    return float(shared / whole) if whole > 0 else 0.0


def _shared(one: Array, other: Array) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return float(max(width, 0) * max(height, 0))


def _area(row: Array) -> float:
    return float(max(row[2] - row[0], 0) * max(row[3] - row[1], 0))


def _clipped(row: Array, photo: Image.Image) -> Array:
    most = np.array([photo.width, photo.height] * 2)
    return np.append(np.clip(row[:4], 0, most), row[4])


def _square(photo: Image.Image, row: Array, margin: float, size: int) -> Array:
    """The square around a box, uint8 [size, size, 3]; beyond the photo's edge, its mirror image."""
    side = max(1, round(float(max(row[2] - row[0], row[3] - row[1])) * (1 + 2 * margin)))
    left, top = (round(float(row[edge] + row[edge + 2]) / 2 - side / 2) for edge in (0, 1))
    inside = (max(left, 0), max(top, 0), min(left + side, photo.width), min(top + side, photo.height))
    cut = photo.crop(inside)
    beyond = ((inside[1] - top, top + side - inside[3]), (inside[0] - left, left + side - inside[2]), (0, 0))
    if any(map(any, beyond)):
        cut = Image.fromarray(np.pad(np.asarray(cut), beyond, mode="reflect"))
    return np.asarray(_resized(cut, size, size))


def _resized(photo: Image.Image, width: int, height: int) -> Image.Image:
    shrinks = width * height < photo.width * photo.height
    return photo.resize((width, height), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
