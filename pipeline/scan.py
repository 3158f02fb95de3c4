"""The one door of the pipeline: images as bytes in, scans out."""

import hashlib
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from PIL import Image

from pipeline.batching import run_in_batches
from pipeline.crops import Pixels, resize, square_crop
from pipeline.detections import SCORE, Floats
from pipeline.engine import Engine, OnnxEngine, TorchEngine
from pipeline.explain import explain
from pipeline.faces import DetectorSettings, FaceDetector, as_box
from pipeline.hashes import perceptual_hash
from pipeline.images import Decoded, DecodeLimits, DecoderPool, ImageError
from pipeline.results import Box, Face, ImageFacts, ModelFacts, Scan, ScanError, Why
from pipeline.weights import MODELS, Calibration, WeightsCard, load_card

CLASSIFIER: Final = MODELS / "shield-lite0.json"
GROUP_PIXELS: Final = 64_000_000  # decoded pixels held at once, about 200 MB
VIEW_QUALITY: Final = 85


@dataclass(frozen=True, slots=True)
class ScannerSettings:
    """How a scanner runs. `device` and `dtype` speak to the torch engine, `threads` (0: all cores) to the ONNX engine.

    `batch`: crops in one forward pass of the classifier. `decoders`: child processes that decode (0: one per core,
    four at most). `view_side`: the longest side of the view in pixels, 0 for none. `crops`: every file is a face crop.
    """

    engine: Literal["onnx", "torch"] = "onnx"
    device: str = "cuda"
    dtype: str = "float32"
    threads: int = 0
    batch: int = 32
    decoders: int = 0
    view_side: int = 0
    crops: bool = False
    classifier: Path = CLASSIFIER
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    limits: DecodeLimits = field(default_factory=DecodeLimits)


@dataclass(frozen=True, slots=True)
class _Crop:
    """One face that awaits its score: `pixels` uint8 [S, S, 3]; `image` is the index of the image that it is of."""

    image: int
    box: Box
    detection_score: float
    landmarks: tuple[tuple[float, float], ...]
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of an image once its pixels are gone."""

    facts: ImageFacts
    view: bytes | None


class Scanner:
    """Finds and scores the faces of many images together. Keep one; it loads the networks when it is made.

    Raises WeightsError where a card or its files are not as they should be.
    """

    def __init__(self, settings: ScannerSettings | None = None) -> None:
        self.settings = settings or ScannerSettings()
        self._classifier = self._engine(load_card(self.settings.classifier))
        self._detector: FaceDetector | None = None
        if not self.settings.crops:
            back, short = (self._engine(load_card(MODELS / f"blazeface-{name}.json")) for name in ("back", "short"))
            self._detector = FaceDetector(back, short, self.settings.detector)
        self._decoders = DecoderPool(self.settings.decoders or min(os.cpu_count() or 1, 4), self.settings.limits)

    @property
    def card(self) -> WeightsCard:
        """The classifier's weights card."""
        return self._classifier.card

    def scan(self, images: Sequence[bytes]) -> list[Scan]:
        """One Scan for each image, in the order given; one that cannot be decoded has an error, its neighbours none.

        All crops of all images go through the classifier together, in full batches. Decoded pixels are dropped as soon
        as crops are cut, so that memory does not grow with the number of images.
        """
        answers: list[_Seen | ScanError] = []
        crops: list[_Crop] = []
        for group in _groups(self._decoders.decode_all(images)):
            found = self._find([answer.pixels for answer in group if isinstance(answer, Decoded)])
            for answer in group:
                index = len(answers)
                if isinstance(answer, ImageError):
                    answers.append(ScanError(answer.code, answer.detail))
                    continue
                answers.append(self._see(answer, images[index]))
                crops.extend(self._cut(index, answer.pixels, next(found)))
        return self._assemble(answers, crops)

    def explain(self, image: bytes, boxes: Sequence[Box], width: int) -> list[Why] | ScanError:
        """Why the faces in these boxes score as they do; an error where the image cannot be decoded.

        The boxes count in pixels of the image `width` pixels wide, of which the one given may be a smaller copy.
        """
        (decoded,) = self._decoders.decode_all([image])
        if isinstance(decoded, ImageError):
            return ScanError(decoded.code, decoded.detail)
        return explain(self._classifier, decoded.pixels, boxes, width, self.settings.batch)

    def _find(self, images: Sequence[Pixels]) -> Iterator[Floats | None]:
        if self._detector is None:
            return iter([None] * len(images))
        return iter(self._detector.find(images))

    def _see(self, decoded: Decoded, content: bytes) -> _Seen:
        height, width = decoded.pixels.shape[:2]
        facts = ImageFacts(width, height, decoded.format, hashlib.sha256(content).hexdigest())
        if not self.settings.view_side:
            return _Seen(facts, None)
        small = shrink(decoded.pixels, self.settings.view_side)
        looks = f"{perceptual_hash(small):016x}"
        return _Seen(replace(facts, looks=looks), encode_view(small, self.settings.view_side))

    def _cut(self, index: int, image: Pixels, detections: Floats | None) -> Iterator[_Crop]:
        """The crops of one image; without a detector the whole image is the one crop."""
        size, margin = self.card.input_size, self.card.margin
        if detections is None:
            whole = Box(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
            yield _Crop(index, whole, 1.0, (), square_crop(image, whole, 0.0, size))
            return
        for detection in detections:
            box = as_box(detection)
            points = tuple((float(x), float(y)) for x, y in detection[4:SCORE].reshape(-1, 2))
            yield _Crop(index, box, float(detection[SCORE]), points, square_crop(image, box, margin, size))

    def _assemble(self, answers: Sequence[_Seen | ScanError], crops: Sequence[_Crop]) -> list[Scan]:
        faces: dict[int, list[Face]] = {}
        for crop, score in zip(crops, self._score(crops), strict=True):
            faces.setdefault(crop.image, []).append(Face(crop.box, crop.detection_score, crop.landmarks, score))
        model = ModelFacts(self.card.name, self.card.version, self.card.weights_sha256)
        return [
            Scan(model, error=answer)
            if isinstance(answer, ScanError)
            else Scan(model, answer.facts, tuple(faces.get(index, ())), view=answer.view)
            for index, answer in enumerate(answers)
        ]

    def _score(self, crops: Sequence[_Crop]) -> list[float]:
        if not crops:
            return []
        logits, _ = run_in_batches(self._classifier, [crop.pixels for crop in crops], self.settings.batch)
        return [calibrated(float(logit), self.card.calibration) for logit in logits[:, 0]]

    def _engine(self, card: WeightsCard) -> Engine:
        if self.settings.engine == "torch":
            return TorchEngine(card, self.settings.device, self.settings.dtype)
        return OnnxEngine(card, self.settings.threads)

    def close(self) -> None:
        """End the decoders' child processes."""
        self._decoders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def calibrated(logit: float, calibration: Calibration) -> float:
    """P(fake) in [0, 1] of a logit (Platt scaling)."""
    scaled = logit / calibration.temperature + calibration.bias
    return 0.5 * (1.0 + math.tanh(scaled / 2))  # the logistic function, safe at any size


def shrink(image: Pixels, longest: int) -> Pixels:
    """RGB pixels uint8 [H, W, 3] as they are, or smaller where their longest side is over `longest`."""
    factor = min(1.0, longest / max(image.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return resize(image, width, height) if factor < 1 else image


def encode_view(image: Pixels, longest: int) -> bytes:
    """A JPEG without metadata of RGB pixels uint8 [H, W, 3], shrunk where its longest side is over `longest`."""
    content = io.BytesIO()
    Image.fromarray(shrink(image, longest)).save(content, "JPEG", quality=VIEW_QUALITY, optimize=True)
    return content.getvalue()


def _groups(answers: Iterator[Decoded | ImageError]) -> Iterator[list[Decoded | ImageError]]:
    """Consecutive answers, cut where their pixels pass GROUP_PIXELS."""
    group: list[Decoded | ImageError] = []
    held = 0
    for answer in answers:
        group.append(answer)
        held += answer.pixels.size // 3 if isinstance(answer, Decoded) else 0
        if held >= GROUP_PIXELS:
            yield group
            group, held = [], 0
    if group:
        yield group
