"""From the raw outputs of BlazeFace to detections: anchors, decoding and weighted non-maximum suppression.

A detection is one row of 17 float32: left, top, right, bottom, x and y of six landmarks (right eye, left eye, nose
tip, mouth, right ear, left ear, as the person has them), score in [0, 1]. Coordinates are pixels.
"""

import math
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SCORE: Final = 16
COLUMNS: Final = 17
LOGIT_LIMIT: Final = 80.0  # keeps exp() inside float32, as the reference does
FINE_ANCHORS: Final = 2
COARSE_ANCHORS: Final = 6


@lru_cache(maxsize=32)
def anchors(height: int, width: int, stride: int) -> Floats:
    """Centres [A, 2] (x, y in input pixels) of the anchors of an input of `height` x `width`.

    `stride` is that of the fine map; the coarse map has twice that. Both sides must be multiples of the coarse stride.
    """
    grids = [_grid(height, width, stride, FINE_ANCHORS), _grid(height, width, 2 * stride, COARSE_ANCHORS)]
    centres = np.concatenate(grids)
    centres.setflags(write=False)
    return centres


def _grid(height: int, width: int, stride: int, repeats: int) -> Floats:
    ys, xs = np.mgrid[0 : height // stride, 0 : width // stride].astype(np.float32)
    centres = (np.stack([xs, ys], axis=-1).reshape(-1, 2) + np.float32(0.5)) * np.float32(stride)
    return np.repeat(centres, repeats, axis=0)


def decode(boxes: Floats, logits: Floats, centres: Floats, threshold: float) -> list[Floats]:
    """The detections [K, 17] of each input whose score is at least `threshold`, under 1, best first.

    `boxes` [N, A, 16] and `logits` [N, A, 1] are the network's outputs, `centres` [A, 2] comes from `anchors`.
    """
    least = math.log(threshold / (1 - threshold)) if threshold > 0 else -math.inf
    inputs, kept = np.nonzero(logits[..., 0] >= least)
    scores = 1.0 / (1.0 + np.exp(-np.clip(logits[inputs, kept, 0], -LOGIT_LIMIT, LOGIT_LIMIT)))
    raw, origin = boxes[inputs, kept].reshape(-1, 8, 2), centres[kept]
    middle, half = raw[:, 0] + origin, raw[:, 1] / 2
    found = np.empty((len(kept), COLUMNS), np.float32)
    found[:, 0:2], found[:, 2:4] = middle - half, middle + half
    found[:, 4:SCORE] = (raw[:, 2:] + origin[:, None]).reshape(-1, SCORE - 4)
    found[:, SCORE] = scores
    sound = np.flatnonzero((half > 0).all(axis=1))
    order = sound[np.lexsort((-found[sound, SCORE], inputs[sound]))]
    return np.split(found[order], np.searchsorted(inputs[order], np.arange(1, len(boxes))))


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union [N, M] of boxes [N, 4+] and others [M, 4+]; further columns are ignored."""
    shared = _shared(boxes, others)
    return _ratio(shared, _areas(boxes)[:, None] + _areas(others)[None, :] - shared)


def _shared(boxes: Floats, others: Floats) -> Floats:
    low = np.maximum(boxes[:, None, 0:2], others[None, :, 0:2])
    high = np.minimum(boxes[:, None, 2:4], others[None, :, 2:4])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2), np.float32)


def _areas(boxes: Floats) -> Floats:
    return np.asarray(np.clip(boxes[:, 2:4] - boxes[:, 0:2], 0, None).prod(axis=1), np.float32)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def blend_overlapping(detections: Floats, overlap: float) -> Floats:
    """Weighted non-maximum suppression (the paper's section 3.4): detections [K, 17] -> [L, 17], best first.

    The best detection takes in all that overlap it by more than `overlap`; coordinates become their mean weighted by
    score, the score stays the best one's. Steadier from frame to frame than keeping the best box alone.
    """
    left = detections[np.argsort(-detections[:, SCORE], kind="stable")]
    blended = []
    while len(left):
        same = overlaps(left[:1], left)[0] > overlap
        same[0] = True  # a box without an area overlaps nothing, not even itself
        group = left[same]
        best = np.average(group, axis=0, weights=group[:, SCORE])
        best[SCORE] = group[0, SCORE]
        blended.append(best)
        left = left[~same]
    return np.asarray(blended, np.float32).reshape(-1, COLUMNS)


def drop_parts(detections: Floats, share: float) -> Floats:
    """Detections [K, 17] -> [L, 17], best first, without those of which more than `share` lies in a better one.

    A box around an eye and a cheek overlaps the box around the face too little for suppression, and is no face.
    """
    ranked = detections[np.argsort(-detections[:, SCORE], kind="stable")]
    inside = _ratio(_shared(ranked, ranked), np.broadcast_to(_areas(ranked)[:, None], (len(ranked), len(ranked))))
    return ranked[~(np.tril(inside, k=-1) > share).any(axis=1)]
