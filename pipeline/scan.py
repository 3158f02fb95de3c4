"""The one door of the pipeline: images as bytes in, scans out."""

import hashlib
import io
import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import numpy as np
from PIL import Image

from pipeline.batching import run_in_batches
from pipeline.crops import Pixels, Sizes, square_around, square_crop
from pipeline.decoders import DecoderPool
from pipeline.detections import SCORE, Floats
from pipeline.engine import Engine, OnnxEngine, usable_cores
from pipeline.explain import explain
from pipeline.faces import DetectorSettings, FaceDetector, as_box
from pipeline.hashes import perceptual_hash
from pipeline.images import Decoded, DecodeLimits, ImageError
from pipeline.results import Box, ErrorCode, Face, ImageFacts, ModelFacts, Scan, ScanError, Why
from pipeline.weights import MODELS, Calibration, WeightsCard, load_card

CLASSIFIER: Final = MODELS / "shield-lite0.json"
LEAST: Final = 1536  # pixels of the longest side that a shrunk photo keeps: the detector sees 1024 of them at most
PIXEL_SECONDS: Final = 1e-7  # what a pixel costs that a network sees, until this machine has been measured
VIEW_QUALITY: Final = 85


@dataclass(frozen=True, slots=True)
class ScannerSettings:
    """How a scanner runs. `device` and `dtype` speak to the torch engine, `threads` (0: all cores) to the ONNX engine.

    `passes`: images of its input size in one pass of a network, by its name; who is not named has the engine's default.
    `batch`: crops that the classifier is given at once. `decoders`: child processes that decode (0: one per core,
    four at most). `view_side`: the longest side of the view in pixels, 0 for none. `crops`: every file is a face crop.

    Images are scanned in groups, after each of which the caller gets its scans. A group is `group_seconds` of work, by
    what earlier ones took, or `group_pixels` decoded pixels, as many again being decoded ahead; at least one image.
    """

    engine: Literal["onnx", "onnx-int8", "torch"] = "onnx"
    device: str = "cuda"
    dtype: str = "float32"
    threads: int = 0
    passes: Mapping[str, int] = field(default_factory=dict)
    batch: int = 32
    decoders: int = 0
    view_side: int = 0
    group_seconds: float = 0.25
    group_pixels: int = 16_000_000
    crops: bool = False
    classifier: Path = CLASSIFIER
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    limits: DecodeLimits = field(default_factory=DecodeLimits)


@dataclass(slots=True)
class _Subject:
    """An image on its way through a group, as it was decoded and made ready ahead.

    `work`: the pixels that a network has to see of it in any case. Its faces have no score yet (NaN); `crops` are under
    way where they need more of the photo than was decoded at first.
    """

    content: bytes
    decoded: Decoded
    sizes: Sizes
    facts: ImageFacts
    view: bytes | None
    work: int
    faces: list[Face] = field(default_factory=list)
    crops: "Future[list[Pixels] | ImageError] | None" = None


class Scanner:
    """Finds and scores the faces of many images together. Keep one; it loads the networks when it is made.

    Raises WeightsError where a card or its files are not as they should be.
    """

    def __init__(self, settings: ScannerSettings | None = None) -> None:
        self.settings = settings or ScannerSettings()
        self._classifier, *detectors = (open_engine(self.settings, card) for card in network_cards(self.settings))
        self._detector: FaceDetector | None = None
        if detectors:
            back, short = detectors
            self._detector = FaceDetector(back, short, self.settings.detector)
        self._model = ModelFacts(self.card.name, self.card.version, self.card.weights_sha256)
        self._pixel_seconds = PIXEL_SECONDS
        self._decoders = DecoderPool(self.settings.decoders or min(usable_cores(), 4), self.settings.limits)

    @property
    def card(self) -> WeightsCard:
        """The classifier's weights card."""
        return self._classifier.card

    def scan(self, images: Sequence[bytes]) -> Generator[Scan, None, None]:
        """One Scan for each image, in the order given; one that cannot be decoded has an error, its neighbours none.

        The scans of a group come as soon as it is done; the next one is decoded meanwhile, and scanned when the first
        of its scans is asked for. In between the caller may do other things, and scan other images. All crops of a
        group go through the classifier together. Pixels are dropped with their group, so that memory does not grow with
        the number of images.
        """
        least, ahead = max(LEAST, self.settings.view_side), self.settings.group_pixels
        with closing(self._decoders.prepare_all(images, self._prepare, least, ahead)) as prepared:
            while group := self._take(prepared):
                scans = self._scan_group(group)
                del group
                yield from scans

    def explain(self, image: bytes, boxes: Sequence[Box], width: int) -> list[Why] | ScanError:
        """Why the faces in these boxes score as they do; an error where the image cannot be decoded.

        The boxes count in pixels of the image `width` pixels wide, of which the one given may be a smaller copy.
        """
        decoded = self._decoders.begin(lambda decoder: decoder.decode(image)).result()
        if isinstance(decoded, ImageError):
            return ScanError(decoded.code, decoded.detail)
        return explain(self._classifier, decoded.pixels, boxes, width, self.settings.batch)

    def _prepare(self, content: bytes, image: Decoded) -> _Subject:
        """All that can be made of an image without a network. It is called in the decoders' threads."""
        longest, view_side = max(image.pixels.shape[:2]), self.settings.view_side
        sides = self._detector.sides(longest) if self._detector else []
        sizes = Sizes(image.pixels, {*sides, view_side} if 0 < view_side < longest else sides)
        facts, view = ImageFacts(image.width, image.height, image.format, hashlib.sha256(content).hexdigest()), None
        if view_side:
            small = sizes.at(view_side) if view_side < longest else image.pixels
            facts, view = replace(facts, looks=f"{perceptual_hash(small):016x}"), encode_view(small, view_side)
        work = self._detector.work(image.width, image.height) if self._detector else self.card.input_size**2
        return _Subject(content, image, sizes, facts, view, work)

    def _take(self, prepared: Iterator[_Subject | ImageError]) -> list[_Subject | ImageError]:
        """The next group; none at the end."""
        group: list[_Subject | ImageError] = []
        pixels, seconds = 0, 0.0
        for answer in prepared:
            group.append(answer)
            if isinstance(answer, _Subject):
                pixels += answer.decoded.pixels.size // 3
                seconds += answer.work * self._pixel_seconds
            if pixels >= self.settings.group_pixels or seconds >= self.settings.group_seconds:
                break
        return group

    def _scan_group(self, group: Sequence[_Subject | ImageError]) -> list[Scan]:
        began = time.perf_counter()
        subjects = [answer for answer in group if isinstance(answer, _Subject)]
        self._find(subjects)
        scans = iter(self._score(subjects))
        answers = [self._failed(answer) if isinstance(answer, ImageError) else next(scans) for answer in group]
        if subjects:
            taken = (time.perf_counter() - began) / sum(subject.work for subject in subjects)
            self._pixel_seconds += (taken - self._pixel_seconds) / 4
        return answers

    def _find(self, subjects: Sequence[_Subject]) -> None:
        """Give each image its faces; what has to be decoded once more for them is then under way."""
        sized = [subject.sizes for subject in subjects]
        found = self._detector.find_in(sized) if self._detector else [None] * len(sized)
        for subject, detections in zip(subjects, found, strict=True):
            subject.faces = _faces(subject.decoded, detections)
            self._look_closer(subject)

    def _look_closer(self, subject: _Subject) -> None:
        """Have a photo that was shrunk decoded larger, where a face would be enlarged to be scored."""
        size, margin, image = self.card.input_size, self.card.margin, subject.decoded
        sides = [square_around(face.box, margin)[2] for face in subject.faces]
        if not sides or min(sides) >= size * image.shrink:
            return
        least = -(-size * max(image.width, image.height) // min(sides))
        cut = partial(self._cut, subject)
        subject.crops = self._decoders.begin(lambda decoder: decoder.read(subject.content, cut, least))

    def _cut(self, subject: _Subject, image: Decoded) -> list[Pixels]:
        """The crops of a photo's faces, of its pixels as they were decoded now."""
        if (image.width, image.height) != (subject.decoded.width, subject.decoded.height):
            raise ImageError(ErrorCode.DECODE_FAILED, f"the {image.format} file is another one each time it is decoded")
        size, margin = self.card.input_size, self.card.margin
        boxes = (scaled(face.box, 1 / image.shrink) for face in subject.faces)
        return [square_crop(image.pixels, box, margin, size) for box in boxes]

    def _score(self, subjects: Sequence[_Subject]) -> list[Scan]:
        """The scans of images whose faces are found."""
        crops = [self._cut(s, s.decoded) if s.crops is None else s.crops.result() for s in subjects]
        scores = iter(self._scores([crop for cut in crops if not isinstance(cut, ImageError) for crop in cut]))
        scans = []
        for subject, cut in zip(subjects, crops, strict=True):
            if isinstance(cut, ImageError):
                scans.append(self._failed(cut))
                continue
            faces = tuple(replace(face, score=next(scores)) for face in subject.faces)
            scans.append(Scan(self._model, subject.facts, faces, view=subject.view))
        return scans

    def _failed(self, error: ImageError) -> Scan:
        return Scan(self._model, error=ScanError(error.code, error.detail))

    def _scores(self, crops: Sequence[Pixels]) -> list[float]:
        if not crops:
            return []
        logits, _ = run_in_batches(self._classifier, crops, self.settings.batch)
        return [calibrated(float(logit), self.card.calibration) for logit in logits[:, 0]]

    def close(self) -> None:
        """End the decoders' child processes."""
        self._decoders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def network_cards(settings: ScannerSettings) -> list[WeightsCard]:
    """The cards of the networks that a scanner loads, the classifier's first. Raises WeightsError."""
    detectors = () if settings.crops else ("back", "short")
    return [load_card(settings.classifier), *(load_card(MODELS / f"blazeface-{name}.json") for name in detectors)]


def open_engine(settings: ScannerSettings, card: WeightsCard) -> Engine:
    """A network as the settings say. Raises WeightsError, and ModuleNotFoundError without torch for its engine."""
    images = settings.passes.get(card.name, 0)
    if settings.engine == "torch":
        from pipeline.torch_engine import TorchEngine

        return TorchEngine(card, settings.device, settings.dtype, images)
    # only the classifier is worth its rounding errors: detectors are small, and what they miss is never scored
    file = "onnx" if card.name.startswith("blazeface") else settings.engine
    return OnnxEngine(card, settings.threads, images, file)


def calibrated(logit: float, calibration: Calibration) -> float:
    """P(fake) in [0, 1] of a logit (Platt scaling)."""
    scaled = logit / calibration.temperature + calibration.bias
    return 0.5 * (1.0 + math.tanh(scaled / 2))  # the logistic function, safe at any size


def encode_view(image: Pixels, longest: int) -> bytes:
    """A JPEG without metadata of RGB pixels uint8 [H, W, 3], shrunk where its longest side is over `longest`."""
    small = Sizes(image, [longest]).at(longest) if max(image.shape[:2]) > longest else image
    content = io.BytesIO()
    Image.fromarray(small).save(content, "JPEG", quality=VIEW_QUALITY)
    return content.getvalue()


def scaled(box: Box, factor: float) -> Box:
    """A box in an image that is so many times larger."""
    return Box(*(factor * side for side in (box.left, box.top, box.width, box.height)))


def _faces(image: Decoded, detections: Floats | None) -> list[Face]:
    """Faces in pixels of the whole image, their scores still unknown; without detections the whole image is the one."""
    if detections is None:
        return [Face(Box(0.0, 0.0, float(image.width), float(image.height)), 1.0, (), math.nan)]
    faces = []
    for detection in detections:
        score = float(detection[SCORE])
        full = detection * image.shrink
        full[0:4] = np.minimum(full[0:4], [image.width, image.height] * 2)  # a shrunk copy's sides are rounded up
        landmarks = tuple((float(x), float(y)) for x, y in full[4:SCORE].reshape(-1, 2))
        faces.append(Face(as_box(full), score, landmarks, math.nan))
    return faces
