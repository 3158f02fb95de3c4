"""What is measured: the weights that ship, through the engines that ship, on crops and on whole photos."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.batching import run_in_batches
from pipeline.crops import resize, square_crop
from pipeline.detections import SCORE, Floats
from pipeline.engine import Engine, OnnxEngine
from pipeline.faces import FaceDetector, as_box
from pipeline.weights import MODELS, WeightsCard, load_card
from training.data import Example, Pictures, Pixels, decode_rgb
from training.facecrops import open_detector

BATCH = 32
CARD = MODELS / "shield-lite0.json"
LANDMARKS = slice(4, SCORE)


def crop_logits(
    engine: Engine, examples: Sequence[Example], pictures: Pictures, progress: bool = False
) -> NDArray[np.float32]:
    """Logits [N] of face crops: each picture whole is the face, resized as a scan resizes its crops."""
    logits: list[NDArray[np.float32]] = []
    for start in range(0, len(examples), BATCH):
        names = [example.file for example in examples[start : start + BATCH]]
        logits.append(pixel_logits(engine, [decode_rgb(pictures.read(name), name) for name in names]))
        if progress:
            end = "\n" if start + len(names) == len(examples) else ""
            sys.stderr.write(f"\r{start + len(names)}/{len(examples)} crops{end}")
            sys.stderr.flush()
    return np.concatenate(logits)


def pixel_logits(engine: Engine, crops: Sequence[Pixels]) -> NDArray[np.float32]:
    """Logits [N] of face crops uint8 [H, W, 3] of any size."""
    size = engine.card.input_size
    return np.asarray(run_in_batches(engine, [resize(crop, size, size) for crop in crops], BATCH)[0][:, 0])


@dataclass(frozen=True, slots=True)
class Subject:
    """A detector and a classifier, opened once."""

    card: WeightsCard
    engine: Engine
    detector: FaceDetector = field(default_factory=open_detector)

    def scores(self, crops: Sequence[Pixels]) -> NDArray[np.float64]:
        """Calibrated scores [N] of face crops uint8 [H, W, 3] of any size."""
        return self.card.calibration.score(pixel_logits(self.engine, crops))

    def face(self, photo: Pixels) -> Floats | None:
        """The largest face of a photo as a detection (box, landmarks, score in pixels); None where there is none."""
        found = self.detector.find([photo])[0]
        if not len(found):
            return None
        return np.asarray(found[np.argmax((found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1]))])

    def crop(self, photo: Pixels, face: Floats) -> Pixels:
        """The face as a scan would cut it: uint8 [S, S, 3]."""
        return square_crop(photo, as_box(face), self.card.margin, self.card.input_size)


def open_subject(card: Path = CARD) -> Subject:
    """Load a card's weights and the detector. Raises WeightsError where a file is not what its card describes."""
    loaded = load_card(card)
    return Subject(loaded, OnnxEngine(loaded))
