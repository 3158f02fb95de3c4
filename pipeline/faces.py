"""Faces: the detector, from images to detections in image coordinates.

The `back` network proposes: it runs over each image at up to three scales, since it finds faces from about a fifteenth
of its input's longest side upward. The `short` network looks again: it sees every proposal close up, in a crop three
times its size, and the mean of both scores decides. Together they find more faces at the same number of false ones than
either does alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.crops import Sizes, square_crop
from pipeline.detections import SCORE, Floats, anchors, blend_overlapping, decode, drop_parts, overlaps
from pipeline.engine import Engine
from pipeline.results import Box

Pixels = npt.NDArray[np.uint8]

BACK_STRIDE = 16
SHORT_STRIDE = 8
SIDE_MULTIPLE = 32  # the coarse stride of `back`


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """How the detector looks. Sides are pixels, thresholds scores in [0, 1], `overlap` an intersection over union.

    `scales`: (longest side that an image is brought to, longest side of image from which that is done). All but the
    first are for small faces: boxes over `small` pixels there are parts of faces that a coarser scale sees whole.
    In an image not much larger than a scale, those faces would be too small to be scored. `propose`: what a proposal
    must score to be looked at again. `close_up`: the margin around it for the second look, in box sides. `keep`: what
    the mean of both looks must reach. `part`: how much of a face may lie in a better one.
    """

    scales: tuple[tuple[int, int], ...] = ((256, 0), (512, 384), (1024, 1536))
    small: float = 96.0
    propose: float = 0.4
    keep: float = 0.6
    overlap: float = 0.3
    close_up: float = 1.0
    part: float = 0.5


@dataclass(frozen=True, slots=True)
class Letterbox:
    """An image shrunk or enlarged into the top left of a canvas whose sides the network can take.

    `canvas` is uint8 [H, W, 3], black where the image is not; `scale` is canvas pixels per image pixel (x, y).
    """

    canvas: Pixels
    scale: tuple[float, float]

    def to_image(self, detections: Floats) -> Floats:
        """Detections [K, 17] in canvas pixels -> the same in image pixels."""
        moved = detections.copy()
        moved[:, :SCORE] /= np.tile(np.asarray(self.scale, np.float32), SCORE // 2)
        return moved


def letterbox(image: Sizes, longest: int) -> Letterbox:
    """An image with its longest side brought to `longest` pixels, its shape kept."""
    placed = image.at(longest)
    height, width = placed.shape[:2]
    canvas = np.zeros((_whole(height), _whole(width), 3), np.uint8)
    canvas[:height, :width] = placed
    return Letterbox(canvas, (width / image.image.shape[1], height / image.image.shape[0]))


def _whole(side: int) -> int:
    return -(-side // SIDE_MULTIPLE) * SIDE_MULTIPLE


class FaceDetector:
    """Images in, detections out; both networks run over many images together."""

    def __init__(self, back: Engine, short: Engine, settings: DetectorSettings | None = None) -> None:
        self.settings = settings or DetectorSettings()
        self._back = back
        self._short = short

    def find(self, images: Iterable[Pixels]) -> list[Floats]:
        """The faces of each image uint8 [H, W, 3] as detections [K, 17] in its pixels, best first.

        Boxes are clipped to the image; landmarks may lie outside it. The score is the mean of both looks.
        """
        return self.find_in([Sizes(image, self.sides(max(image.shape[:2]))) for image in images])

    def sides(self, longest: int) -> list[int]:
        """The longest sides of the copies in which an image is looked at whose own is `longest` pixels."""
        return [scale for scale, least in self.settings.scales if longest >= least]

    def find_in(self, sized: Sequence[Sizes]) -> list[Floats]:
        """As `find` does, in images that come with the copies of `sides`."""
        images = [sizes.image for sizes in sized]
        proposals = self._propose(sized)
        self._look_again(images, proposals)
        kept = []
        for image, found in zip(images, proposals, strict=True):
            sure = found[found[:, SCORE] >= self.settings.keep]
            kept.append(_clip(drop_parts(sure, self.settings.part), image))
        return kept

    def work(self, width: int, height: int) -> int:
        """The pixels that the `back` network has to see of an image of this size."""
        longest = max(width, height)
        return sum(side * side * min(width, height) // longest for side in self.sides(longest))

    def _propose(self, images: Sequence[Sizes]) -> list[Floats]:
        """One set of blended detections per image, from all scales."""
        by_shape: dict[tuple[int, ...], list[tuple[int, Letterbox]]] = defaultdict(list)
        for index, sizes in enumerate(images):
            for longest in self.sides(max(sizes.image.shape[:2])):
                box = letterbox(sizes, longest)
                by_shape[box.canvas.shape].append((index, box))
        found: list[list[Floats]] = [[] for _ in images]
        for (height, width, _), group in by_shape.items():
            boxes, logits = self._back.run(np.stack([box.canvas for _, box in group]))
            decoded = decode(boxes, logits, anchors(height, width, BACK_STRIDE), self.settings.propose)
            for (index, box), seen in zip(group, decoded, strict=True):
                found[index].append(box.to_image(seen[self._is_for(box, seen)]))
        return [blend_overlapping(np.concatenate(parts), self.settings.overlap) for parts in found]

    def _is_for(self, box: Letterbox, seen: Floats) -> npt.NDArray[np.bool_]:
        """Which detections [K, 17] the scale of this canvas is for."""
        if max(box.canvas.shape) <= self.settings.scales[0][0]:
            return np.ones(len(seen), np.bool_)
        sides: npt.NDArray[np.bool_] = (seen[:, 2:4] - seen[:, 0:2]).max(axis=1, initial=0.0) <= self.settings.small
        return sides

    def _look_again(self, images: Sequence[Pixels], proposals: list[Floats]) -> None:
        """Replace each proposal's score by the mean of it and what `short` sees close up."""
        size, margin = self._short.card.input_size, self.settings.close_up
        owners = [(index, row) for index, found in enumerate(proposals) for row in range(len(found))]
        if not owners:
            return
        crops = [square_crop(images[index], as_box(proposals[index][row]), margin, size) for index, row in owners]
        boxes, logits = self._short.run(np.stack(crops))
        least = max(0.0, 2 * self.settings.keep - 1)  # no mean with a lower score than that is kept
        decoded = decode(boxes, logits, anchors(size, size, SHORT_STRIDE), least)
        for (index, row), seen in zip(owners, decoded, strict=True):
            proposal = proposals[index][row]
            expected = _in_close_up(as_box(proposal), margin, size)
            same = seen[overlaps(expected, seen)[0] > self.settings.overlap]
            proposal[SCORE] = (proposal[SCORE] + same[:, SCORE].max(initial=0.0)) / 2


def _in_close_up(box: Box, margin: float, size: int) -> Floats:
    """Where a proposal lies in its own close-up of `size` pixels: [1, 4], centred."""
    per_pixel = size / (max(box.width, box.height) * (1 + 2 * margin))
    half_width, half_height = box.width * per_pixel / 2, box.height * per_pixel / 2
    middle = size / 2
    edges = [middle - half_width, middle - half_height, middle + half_width, middle + half_height]
    return np.asarray([edges], np.float32)


def as_box(detection: Floats) -> Box:
    """The box of one detection [17]."""
    left, top, right, bottom = (float(edge) for edge in detection[:4])
    return Box(left, top, right - left, bottom - top)


def _clip(detections: Floats, image: Pixels) -> Floats:
    height, width = image.shape[:2]
    detections[:, 0:4:2] = np.clip(detections[:, 0:4:2], 0, width)
    detections[:, 1:4:2] = np.clip(detections[:, 1:4:2], 0, height)
    sides = detections[:, 2:4] - detections[:, 0:2]
    return detections[(sides >= 1).all(axis=1)]
