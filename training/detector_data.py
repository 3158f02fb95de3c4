"""Photos with boxes around their faces, and what BlazeFace learns from them: framing, crops, anchors, targets.

A CSV of boxes has the columns file,width,height,kind,xmin,ymin,xmax,ymax: one face a row, pixels of the photo.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import v2

from pipeline.crops import resize
from pipeline.detections import FINE_ANCHORS, Floats, anchors, overlaps
from pipeline.faces import BACK_STRIDE
from training.config import TrainConfig
from training.data import DataError, Example, Pictures, Pixels, decode_rgb, manifest_rows
from training.duplicates import COUNTS, hashes_of

COLUMNS = ("file", "width", "height", "kind", "xmin", "ymin", "xmax", "ymax")
SCALES = (0.15625, 0.75)  # the faces that the finest and the coarsest anchor layer are for, as a share of `back`'s 256
LAYERS = 4  # of two anchors each: the first is the fine map, the other three share the coarse one
MATCHED = 0.5  # an anchor that overlaps a face so much learns it
NEUTRAL = 0.3  # one that overlaps it at least so much is not told that there is none
LEAST = 8.0  # pixels of the crop: smaller faces are neither learnt nor unlearnt
SAME_SCENE = 12  # bits of 64: pairs within it are one scene here, seen twice; from 14 on they are not
ZOOM = (256, 832)  # pixels that a photo's longest side is brought to: what the scan's scales do to it, and between them


@dataclass(frozen=True, slots=True)
class BoxedPhoto:
    """A photo's faces: boxes float32 [N, 4] (left, top, right, bottom in its pixels) and the kind of each."""

    file: str
    width: int
    height: int
    boxes: Floats
    kinds: tuple[str, ...]

    def pixels(self, pictures: Pictures) -> Pixels:
        """Decode the photo. Raises DataError where it is not of the size that the boxes are for."""
        decoded = decode_rgb(pictures.read(self.file), self.file)
        if decoded.shape[:2] != (self.height, self.width):
            height, width = decoded.shape[:2]
            raise DataError(f"{self.file} is {width}x{height}, its boxes are for {self.width}x{self.height}")
        return decoded


@dataclass(frozen=True, slots=True)
class Framing:
    """How BlazeFace frames a face that someone else has framed: `fit_framing` measures it.

    Its square's side is `wide` of their width and `high` of their height; its centre is moved by `right` and `down`,
    shares of the square root of their box's area.
    """

    wide: float
    high: float
    right: float
    down: float

    def apply(self, boxes: Floats) -> Floats:
        """Annotated boxes [N, 4] -> squares [N, 4] as BlazeFace would draw them."""
        sides = boxes[:, 2:4] - boxes[:, 0:2]
        moved = sides_of(boxes)[:, None] * np.array([self.right, self.down], np.float32)
        middle = (boxes[:, 0:2] + boxes[:, 2:4]) / 2 + moved
        half = (sides @ np.array([self.wide, self.high], np.float32))[:, None] / 2
        return np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)


def sides_of(boxes: Floats) -> Floats:
    """The side [N] of the square that has a box's area, pixels."""
    return np.asarray(np.sqrt((boxes[:, 2:4] - boxes[:, 0:2]).prod(axis=1)), np.float32)


def fit_framing(boxes: Floats, found: Floats) -> Framing:
    """The framing that turns annotated boxes [N, 4] into the detector's boxes [N, 4+] of the same faces.

    Least squares for the side, medians for the centre, both relative to the face's size.
    """
    size = sides_of(boxes)[:, None]
    sides = (boxes[:, 2:4] - boxes[:, 0:2]) / size
    longer = (found[:, 2:4] - found[:, 0:2]).max(axis=1) / size[:, 0]
    wide, high = np.linalg.lstsq(sides, longer, rcond=None)[0]
    moved = ((found[:, 0:2] + found[:, 2:4]) - (boxes[:, 0:2] + boxes[:, 2:4])) / 2 / size
    right, down = np.median(moved, axis=0)
    return Framing(float(wide), float(high), float(right), float(down))


def read_boxes(path: Path) -> list[BoxedPhoto]:
    """The photos of a CSV of boxes, in its order. Raises DataError, naming the row, for one that cannot be used."""
    grouped: dict[str, list[tuple[dict[str, str], list[float]]]] = {}
    for number, row in manifest_rows(path):
        grouped.setdefault(row.get("file") or "", []).append((row, _numbers(f"{path}:{number}", row)))
    if not grouped:
        raise DataError(f"{path} has no rows")
    return [
        BoxedPhoto(
            file=file,
            width=int(faces[0][1][0]),
            height=int(faces[0][1][1]),
            boxes=np.array([numbers[2:] for _, numbers in faces], np.float32),
            kinds=tuple(row["kind"] for row, _ in faces),
        )
        for file, faces in grouped.items()
    ]


def _numbers(where: str, row: dict[str, str]) -> list[float]:
    """Width, height, left, top, right, bottom of a row that makes sense."""
    if missing := [name for name in COLUMNS if not row.get(name)]:
        raise DataError(f"{where}: no {', '.join(missing)}; the columns needed are {','.join(COLUMNS)}")
    try:
        size = [float(int(row[name])) for name in ("width", "height")]
        numbers = size + [float(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    width, height, left, top, right, bottom = numbers
    # Annotators draw a pixel past the edge now and then: it is the face's centre that must lie in the photo.
    if not (left < right and top < bottom and 0 < left + right < 2 * width and 0 < top + bottom < 2 * height):
        raise DataError(f"{where}: {left:g},{top:g},{right:g},{bottom:g} is no box in a photo of {width:g}x{height:g}")
    return numbers


def scenes_of(photos: list[BoxedPhoto], pictures: Pictures) -> NDArray[np.int64]:
    """The scene [N] of every photo: photos within SAME_SCENE bits of each other, or of a third one, show the same."""
    hashes, _ = hashes_of([Example(p.file, 0, p.file, "", "") for p in photos], pictures)
    differ = COUNTS[np.bitwise_xor(hashes[:, None], hashes[None]).view(np.uint8)]
    near = differ.reshape(len(photos), len(photos), 8).sum(axis=2) <= SAME_SCENE
    scenes = np.arange(len(photos))
    while (joined := np.where(near, scenes, len(photos)).min(axis=1)).tolist() != scenes.tolist():
        scenes = joined
    return scenes


def folds_of(scenes: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold [N] of every photo, drawn by the seed: about equally many in each, a scene in one alone."""
    names, place = np.unique(scenes, return_inverse=True)
    if len(names) < folds:
        raise DataError(f"{folds} folds need as many scenes, there are {len(names)}")
    drawn: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(names)) % folds
    return drawn[place]


def anchor_sizes(height: int, width: int) -> Floats:
    """The face sizes [A] in pixels that the anchors of `back` are for, in the order of `pipeline.detections.anchors`.

    SSD's rule (Liu et al., 2016, arXiv:1512.02325, section 2.2): layers evenly between two scales, and between each
    layer and the next the geometric mean. The shipped weights answer to faces of about these sizes.
    """
    layers = [*np.linspace(*SCALES, LAYERS), 1.0]
    pairs = [(scale, np.sqrt(scale * following)) for scale, following in itertools.pairwise(layers)]
    sizes = 256 * np.array(pairs, np.float32).ravel()
    fine, coarse = ((height // stride) * (width // stride) for stride in (BACK_STRIDE, 2 * BACK_STRIDE))
    return np.concatenate([np.tile(sizes[:FINE_ANCHORS], fine), np.tile(sizes[FINE_ANCHORS:], coarse)])


def match_anchors(boxes: Floats, usable: NDArray[np.bool_], side: int) -> tuple[NDArray[np.int64], Floats]:
    """What each anchor of a crop of `side` pixels is to learn from faces [N, 4] in the crop's pixels.

    Returns labels [A] (1 a face, 0 none, -1 neither) and targets [A, 4] (centre relative to the anchor's, size; pixels;
    meaningful where the label is 1). An anchor learns the usable face that it overlaps most, from MATCHED on; every
    usable face has its best anchor. Faces under the smallest anchor's size are matched as if they had it.
    """
    centres, sizes = anchors(side, side, BACK_STRIDE), anchor_sizes(side, side)
    labels, targets = np.zeros(len(centres), np.int64), np.zeros((len(centres), 4), np.float32)
    if not len(boxes):
        return labels, targets
    middle, face = (boxes[:, 0:2] + boxes[:, 2:4]) / 2, boxes[:, 2:4] - boxes[:, 0:2]
    half = np.maximum(face, sizes.min()) / 2
    looks = np.concatenate([middle - half, middle + half], axis=1)
    reach = sizes[:, None] / 2
    shared = overlaps(looks, np.concatenate([centres - reach, centres + reach], axis=1))
    labels[shared.max(axis=0) >= NEUTRAL] = -1
    shared[~usable] = 0
    owner, most = shared.argmax(axis=0), shared.max(axis=0)
    for row in np.flatnonzero(usable):
        best = shared[row].argmax()
        owner[best], most[best] = row, 1.0
    labels[most >= MATCHED] = 1
    targets[:, 0:2], targets[:, 2:4] = middle[owner] - centres, face[owner]
    return labels, targets


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops uint8 RGB [B, 3, S, S] with the labels [B, A] and targets [B, A, 4] of `match_anchors`."""

    pixels: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor


def colour_transform() -> v2.Compose:
    """uint8 RGB [3, S, S] -> the same shape: light, colour, compression."""
    return v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03)], p=0.7),
            v2.RandomGrayscale(p=0.1),
            v2.RandomApply([v2.GaussianBlur(5, sigma=(0.3, 1.2))], p=0.1),
            v2.RandomApply([v2.JPEG((40, 95))], p=0.3),
        ]
    )


def draw_batch(config: TrainConfig, photos: list[BoxedPhoto], pictures: Pictures, framing: Framing, step: int) -> Batch:
    """Batch `step` of a training: it depends on the seed and the step alone, so a resumed training sees the same."""
    rng = np.random.default_rng((config.seed, step))
    torch.manual_seed(int(rng.integers(2**31)))
    colour = colour_transform()
    crops, labels, targets = [], [], []
    for index in rng.integers(len(photos), size=config.batch):
        photo = photos[index]
        crop, boxes = random_crop(photo.pixels(pictures), framing.apply(photo.boxes), config.input_size, rng)
        middle = (boxes[:, 0:2] + boxes[:, 2:4]) / 2
        inside = ((middle > 0) & (middle < config.input_size)).all(axis=1)
        label, target = match_anchors(boxes, inside & (sides_of(boxes) >= LEAST), config.input_size)
        crops.append(colour(torch.from_numpy(crop).permute(2, 0, 1)))
        labels.append(torch.from_numpy(label))
        targets.append(torch.from_numpy(target))
    return Batch(torch.stack(crops), torch.stack(labels), torch.stack(targets))


def random_crop(pixels: Pixels, boxes: Floats, side: int, rng: np.random.Generator) -> tuple[Pixels, Floats]:
    """A random square around a random face, [side, side, 3], half of them mirrored; all boxes [N, 4] in its pixels.

    What lies outside the photo is black, as beside a photo in the scan's canvas: a mirrored border would show faces
    that nobody has boxed.
    """
    longest = np.exp(rng.uniform(*np.log(ZOOM)))
    height, width = pixels.shape[:2]
    window = max(1, round(side * max(height, width) / longest))
    face = boxes[rng.integers(len(boxes))]
    left, top = (
        _start((face[axis] + face[axis + 2]) / 2, window, extent, rng) for axis, extent in ((0, width), (1, height))
    )
    square = np.zeros((window, window, 3), np.uint8)
    inside = pixels[max(top, 0) : top + window, max(left, 0) : left + window]
    down, right = max(-top, 0), max(-left, 0)
    square[down : down + inside.shape[0], right : right + inside.shape[1]] = inside
    crop = resize(square, side, side)
    moved = ((boxes - np.array([left, top] * 2, np.float32)) * np.float32(side / window)).astype(np.float32)
    if rng.random() < 0.5:
        crop = np.ascontiguousarray(crop[:, ::-1])
        moved[:, [0, 2]] = side - moved[:, [2, 0]]
    return crop, moved


def _start(centre: float, window: int, extent: int, rng: np.random.Generator) -> int:
    """Where a window starts on one axis: a random place with the face's centre in it, off the photo only as it must."""
    least, most = sorted((0, extent - window))
    low, high = (min(max(place, least), most) for place in (centre - window, centre))
    return int(rng.uniform(low, high))
