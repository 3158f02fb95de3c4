"""What a scan answers: plain, frozen facts, in the coordinates of the upright image."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

Point: TypeAlias = tuple[float, float]


class ErrorCode(StrEnum):
    """Why an image was not scanned. The values are part of the public contract and never change."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TRUNCATED = "truncated"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_LARGE = "too_large"
    DECODE_FAILED = "decode_failed"
    DECODER_CRASHED = "decoder_crashed"
    DECODE_TIMEOUT = "decode_timeout"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright image; `left` and `top` may lie between pixels."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Face:
    """A kept detection and its score.

    `landmarks` are the person's right eye, left eye, nose tip, mouth, right ear and left ear (x, y in pixels), empty
    where the file was given as a face crop. `score` is P(fake), calibrated; both scores lie in [0, 1].
    """

    box: Box
    detection_score: float
    landmarks: tuple[Point, ...]
    score: float


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The upright image: its size in pixels, its format as its first bytes tell it, the sha256 of its bytes.

    `looks` is the perceptual hash of its view (pipeline.hashes) as 16 hex characters, where the scanner makes views.
    """

    width: int
    height: int
    format: str
    sha256: str
    looks: str | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which classifier gave the scores."""

    name: str
    version: str
    weights_sha256: str


@dataclass(frozen=True, slots=True)
class ScanError:
    """Why there are no faces to speak of: a stable code for programs, a sentence for people."""

    code: ErrorCode
    detail: str


@dataclass(frozen=True, slots=True)
class Scan:
    """All that one scan of one image found: either `image` and its faces, or `error`.

    `view` is a small JPEG of the upright image without metadata, where the scanner was asked for one.
    """

    model: ModelFacts
    image: ImageFacts | None = None
    faces: tuple[Face, ...] = ()
    error: ScanError | None = None
    view: bytes | None = None

    @property
    def score(self) -> float | None:
        """The highest score of a face; None without a face."""
        return max((face.score for face in self.faces), default=None)

    def as_json(self) -> dict[str, Any]:
        """The part of an item's result that a scan knows, made of JSON types; `view` is left out."""
        return {
            "score": self.score,
            "faces": [_face_json(face) for face in self.faces],
            "image": _facts_json(self.image, "width", "height", "format", "sha256"),
            "model": _facts_json(self.model, "name", "version", "weights_sha256"),
            "error": _facts_json(self.error, "code", "detail"),
        }


@dataclass(frozen=True, slots=True)
class Why:
    """Of one face: the square that was cut out around it, in pixels of the upright image, and what came of that.

    The square may reach over the image's borders. `crop` is what the classifier saw, a JPEG; `heatmap` a transparent
    PNG to lay over it, or over the square. Scores are P(fake), calibrated: as it is, and re-saved in the ways named.
    """

    left: float
    top: float
    side: float
    crop: bytes
    heatmap: bytes
    score: float
    stability: tuple[tuple[str, float], ...]


def _face_json(face: Face) -> dict[str, Any]:
    return {
        "box": {side: round(getattr(face.box, side), 2) for side in ("left", "top", "width", "height")},
        "detection_score": round(face.detection_score, 6),
        "score": face.score,
        "landmarks": [[round(x, 2), round(y, 2)] for x, y in face.landmarks],
    }


def _facts_json(facts: object, *names: str) -> dict[str, Any] | None:
    return None if facts is None else {name: getattr(facts, name) for name in names}
