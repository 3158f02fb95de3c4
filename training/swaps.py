"""Face swaps made without a generator, as simple swap apps make them: align, recolour, blend.

They look plausible and carry the traces that such tools leave: a soft seam, another sharpness inside than outside, a
colour that is right on average only. They serve as sample fakes and as fakes for training; see samples/README.md.
"""

import argparse
import sys
from pathlib import Path
from typing import Final, Literal, get_args

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.detections import SCORE
from pipeline.weights import WeightsError
from training.data import DataError, Pixels, decode_rgb
from training.facecrops import open_detector

Floats = NDArray[np.float64]
Blend = Literal["feather", "poisson"]

JPEG_QUALITY: Final = 88  # of swaps and originals alike, so that compression does not tell them apart
RIGHT_EYE, LEFT_EYE, NOSE, MOUTH, RIGHT_EAR, LEFT_EAR = range(6)
# How much each landmark counts in the alignment. BlazeFace guesses ears that hair or pose hide.
TRUST: Final = np.array([1.0, 1.0, 0.5, 1.0, 0.1, 0.1])
# The face outline in face units: x from eye to eye (the eyes at -0.5 and 0.5), y from the eyes (0) to the mouth (1).
# The brows lie just below the first row; the chin, which BlazeFace does not give, about 0.7 below the mouth.
OUTLINE: Final = np.array(
    [
        (-0.50, -0.44), (0.00, -0.46), (0.50, -0.44), (0.86, -0.32), (1.00, 0.05), (0.96, 0.55),
        (0.82, 1.05), (0.52, 1.45), (0.00, 1.62), (-0.52, 1.45), (-0.82, 1.05), (-0.96, 0.55),
        (-1.00, 0.05), (-0.86, -0.32),
    ]
)  # fmt: skip
EAR_INSET: Final = 0.85  # the outline stops short of the ears by this factor
EROSION: Final = 0.06  # of the distance between the eyes: keeps hair and background of the source out
FEATHER: Final = 0.10  # standard deviation of the soft edge, in the same unit
CONTRAST_LIMIT: Final = 1.6  # a flat source face is not stretched beyond this, which would show its noise


def swap_face(
    target: Pixels,
    target_landmarks: ArrayLike,
    source: Pixels,
    source_landmarks: ArrayLike,
    blend: Blend = "feather",
) -> Pixels:
    """A copy of `target` that wears the face of `source`; both [H, W, 3] uint8 RGB of any size.

    Landmarks are [6, 2] pixels (x, y) in BlazeFace's order: right eye, left eye, nose tip, mouth centre, right ear,
    left ear. The source face is aligned by an affine transform, recoloured in Lab to the target's skin (Reinhard et
    al., "Color Transfer between Images", 2001) and blended under a soft mask, or with Poisson's equation (Perez et
    al., "Poisson Image Editing", 2003). Pixels outside the mask stay as they are. Raises ValueError where a picture or
    its landmarks have another shape, the landmarks do not span a face, or the two faces do not overlap in the pictures.
    """
    if blend not in get_args(Blend):
        raise ValueError(f"blend must be one of {', '.join(get_args(Blend))}, not {blend!r}")
    wearer, donor = _landmarks(target, target_landmarks), _landmarks(source, source_landmarks)
    region = _region(target, wearer)
    wearer = wearer - (region[1].start, region[0].start)
    patch = target[region]
    motion = _motion(donor, wearer)
    face = _moved(source, motion, patch.shape[:2])
    mask = np.minimum(face_mask(patch.shape[:2], wearer), _moved(_shown(source, donor), motion, patch.shape[:2]))
    solid = _shrunk(mask, wearer)
    if not solid.any():
        raise ValueError("the two faces do not overlap inside their pictures; choose photos that show the whole face")
    face = _recoloured(face, patch, solid > 0)
    swapped = target.copy()
    swapped[region] = _cloned(face, patch, solid) if blend == "poisson" else _feathered(face, patch, solid, wearer)
    return swapped


def face_mask(shape: tuple[int, ...], landmarks: ArrayLike) -> Pixels:
    """The face from brows to chin as a mask [H, W] uint8, 0 to 255, from six BlazeFace landmarks [6, 2] in pixels."""
    points = np.asarray(landmarks, np.float64)
    middle, across, down = _axes(points)
    to_units = np.linalg.inv(np.column_stack([across, down]))
    ears = ((points[[RIGHT_EAR, LEFT_EAR]] - middle) @ to_units.T)[:, 0]
    # In a turned face one ear comes close to its eye, and the outline with it.
    narrow, wide = np.clip(np.array([-ears[0], ears[1]]) * EAR_INSET, 0.62, 1.0)
    outline = OUTLINE * np.stack([np.where(OUTLINE[:, 0] < 0, narrow, wide), np.ones(len(OUTLINE))], axis=1)
    corners = middle + outline @ np.stack([across, down])
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(corners.round().astype(np.int32)), (255,), lineType=cv2.LINE_AA)
    return mask


def _landmarks(pixels: Pixels, landmarks: ArrayLike) -> Floats:
    points = np.asarray(landmarks, np.float64)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"a picture must be [H, W, 3] uint8, not {list(pixels.shape)} {pixels.dtype}")
    if points.shape != (6, 2):
        raise ValueError(f"landmarks must be [6, 2], not {list(points.shape)}")
    _, across, down = _axes(points)
    if not np.isfinite(points).all() or abs(across[0] * down[1] - across[1] * down[0]) < 1:
        raise ValueError("the landmarks do not span a face: eyes and mouth lie on one line")
    return points


def _axes(points: Floats) -> tuple[Floats, Floats, Floats]:
    """The middle between the eyes, the step from the right eye to the left one, the step down to the mouth."""
    middle: Floats = (points[RIGHT_EYE] + points[LEFT_EYE]) / 2
    across: Floats = points[LEFT_EYE] - points[RIGHT_EYE]
    down: Floats = points[MOUTH] - middle
    return middle, across, down


def _region(pixels: Pixels, points: Floats) -> tuple[slice, slice]:
    """Rows and columns that hold the face and its soft edge: all that a swap works on, however large the photo is."""
    middle, across, down = _axes(points)
    reach = 2.2 * max(np.hypot(*across), np.hypot(*down))
    low = np.clip(np.floor(middle - reach), 0, None).astype(int)
    high = np.ceil(middle + reach).astype(int)
    return slice(low[1], min(high[1], pixels.shape[0])), slice(low[0], min(high[0], pixels.shape[1]))


def _motion(points: Floats, onto: Floats) -> Floats:
    """The affine transform [2, 3] that takes `points` closest to `onto`, least squares weighted by TRUST."""
    weights = np.sqrt(TRUST)[:, None]
    design = np.column_stack([points, np.ones(len(points))]) * weights
    solution: Floats = np.linalg.lstsq(design, onto * weights, rcond=None)[0]
    return solution.T


def _moved(pixels: Pixels, motion: Floats, shape: tuple[int, ...]) -> Pixels:
    scale = float(np.sqrt(abs(np.linalg.det(motion[:, :2]))))
    if scale < 1:  # warpAffine looks at four pixels only: shrinking needs a softer picture first
        pixels = cv2.GaussianBlur(pixels, (0, 0), 0.5 * np.sqrt(1 / scale**2 - 1) + 1e-3).astype(np.uint8)
    size = (shape[1], shape[0])
    return cv2.warpAffine(pixels, motion, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).astype(np.uint8)


def _shown(source: Pixels, points: Floats) -> Pixels:
    """The source's own face mask, less its outermost pixels, beside which there is nothing to interpolate with."""
    mask = face_mask(source.shape, points)
    mask[[0, -1]], mask[:, [0, -1]] = 0, 0
    return mask


def _shrunk(mask: Pixels, points: Floats) -> Pixels:
    """The mask without its edge, and without the frame of the region, where the soft edge could not fade out."""
    span = float(np.hypot(*_axes(points)[1]))
    side = 2 * round(EROSION * span) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    # A border value of 0 also eats away what touches the picture's edge.
    eroded = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
    eroded[[0, -1]], eroded[:, [0, -1]] = 0, 0
    return np.where(eroded > 127, 255, 0).astype(np.uint8)


def _recoloured(face: Pixels, patch: Pixels, inside: NDArray[np.bool_]) -> Pixels:
    """`face` with the mean and spread that `patch` has `inside` the mask, channel by channel in Lab."""
    lab = cv2.cvtColor(face.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    goal = cv2.cvtColor(patch.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[inside]
    mean, spread = lab[inside].mean(axis=0), lab[inside].std(axis=0)
    gain = np.clip(goal.std(axis=0) / np.maximum(spread, 1e-3), 0, CONTRAST_LIMIT)
    lab = ((lab - mean) * gain + goal.mean(axis=0)).astype(np.float32)
    return np.clip(np.rint(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB) * 255), 0, 255).astype(np.uint8)


def _feathered(face: Pixels, patch: Pixels, solid: Pixels, points: Floats) -> Pixels:
    sigma = FEATHER * float(np.hypot(*_axes(points)[1]))
    soft = cv2.GaussianBlur(solid.astype(np.float32) / 255, (0, 0), max(sigma, 0.5))[..., None]
    mixed = face * soft + patch * (1 - soft)
    return np.rint(mixed).astype(np.uint8)


def _cloned(face: Pixels, patch: Pixels, solid: Pixels) -> Pixels:
    left, top, width, height = cv2.boundingRect(solid)
    middle = (left + width // 2, top + height // 2)  # seamlessClone puts the mask's bounding box there
    return cv2.seamlessClone(face, patch, solid, middle, cv2.NORMAL_CLONE).astype(np.uint8)


def encode(pixels: Pixels) -> bytes:
    """`pixels` as JPEG, the one way in which originals and swaps are saved."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def swap_files(target: Path, source: Path, out: Path, blend: Blend = "feather") -> None:
    """Write to `out` the photo `target` with the largest face of `source` on its largest face.

    Raises DataError where a file is no picture or shows no face, OSError where one cannot be read or written.
    """
    wearer, donor = (decode_rgb(path.read_bytes(), str(path)) for path in (target, source))
    points = find_landmarks(wearer, str(target)), find_landmarks(donor, str(source))
    out.write_bytes(encode(swap_face(wearer, points[0], donor, points[1], blend)))


def find_landmarks(pixels: Pixels, name: str) -> Floats:
    """The six landmarks [6, 2] of the largest face in a picture. Raises DataError, which names it, if there is none."""
    found = open_detector().find([pixels])[0]  # [K, 17]: left, top, right, bottom, landmarks, score
    if not len(found):
        raise DataError(f"{name}: no face found; choose a photo that shows a face from the front")
    largest = found[np.argmax((found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1]))]
    return largest[4:SCORE].reshape(6, 2).astype(np.float64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--target", type=Path, required=True, help="the photo that gets another face")
    parser.add_argument("--source", type=Path, required=True, help="the photo that the face comes from")
    parser.add_argument("--out", type=Path, required=True, help="the JPEG to write")
    parser.add_argument("--blend", choices=get_args(Blend), default="feather", help="how the face is put in (feather)")


def main(args: argparse.Namespace) -> int:
    """Make one swap; 1 and a reason on stderr where that cannot be done."""
    try:
        swap_files(args.target, args.source, args.out, args.blend)
    except (DataError, WeightsError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
