"""Face detectors that a user would pick, and ours, as contenders: decoded photos in, boxes out, a photo at a time.

Decoding is not counted, for all take the same pixels. Each runs as its package offers it, at a score of 0.5 where there
is a threshold to set: LiteRT with BlazeFace's published files (one pass over the whole photo, letterboxed), mediapipe's
face detection (both of its models), facenet-pytorch's MTCNN. Ours runs as it ships.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

ROOT: Final = Path(__file__).resolve().parents[2]
THRESHOLD: Final = 0.5

Pixels = Any  # uint8 [H, W, 3], RGB
Boxes = Sequence[Sequence[float]]  # left, top, right, bottom in the photo's pixels


class Detector:
    """Looks for faces with the given function."""

    def __init__(self, boxes_of: Callable[[Pixels], Boxes]) -> None:
        self._boxes_of = boxes_of
        self._warm = False

    def find(self, photos: list[str]) -> dict[str, Any]:
        """The boxes of each file, and the seconds that all took."""
        pixels = [_pixels(photo) for photo in photos]
        if not self._warm:
            self._boxes_of(pixels[0])
            self._warm = True
        began = time.perf_counter()
        found = [self._boxes_of(photo) for photo in pixels]
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "boxes": [[[float(v) for v in box] for box in boxes] for boxes in found]}


class Shield:
    """The product's detector as it ships. It takes many photos at once, and is given them so."""

    def __init__(self) -> None:
        from benchmarks.bench.networks import as_a_worker, card_of
        from pipeline.faces import FaceDetector
        from pipeline.scan import ScannerSettings, open_engine

        settings = as_a_worker(ScannerSettings())
        back, short = (open_engine(settings, card_of(f"blazeface-{name}")) for name in ("back", "short"))
        self._detector = FaceDetector(back, short, settings.detector)

    def find(self, photos: list[str]) -> dict[str, Any]:
        """See Detector."""
        pixels = [_pixels(photo) for photo in photos]
        began = time.perf_counter()
        found = self._detector.find(pixels)
        return {"seconds": time.perf_counter() - began, "boxes": [faces[:, :4].tolist() for faces in found]}


class _LiteRT(Detector):
    """BlazeFace on LiteRT: the photo letterboxed into the input, one pass, weighted non-maximum suppression."""

    def __init__(self, network: str, stride: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        from benchmarks.bench.networks import TFLITE, card_of
        from pipeline.detections import anchors, blend_overlapping, decode

        card = card_of(network)
        size = card.input_size
        interpreter = Interpreter(str(TFLITE[network]), num_threads=os.cpu_count())
        interpreter.allocate_tensors()
        place = interpreter.get_input_details()[0]["index"]
        outputs = {output["name"]: output["index"] for output in interpreter.get_output_details()}
        centres = anchors(size, size, stride)

        def boxes_of(photo: Pixels) -> Boxes:
            height, width = photo.shape[:2]
            factor = size / max(height, width)
            inner = (max(1, round(width * factor)), max(1, round(height * factor)))
            canvas = np.zeros((size, size, 3), np.uint8)
            canvas[: inner[1], : inner[0]] = np.asarray(Image.fromarray(photo).resize(inner, Image.Resampling.BOX))
            normal = (canvas - np.array(card.mean, np.float32)) / np.array(card.std, np.float32)
            interpreter.set_tensor(place, normal[None])
            interpreter.invoke()
            boxes, logits = (interpreter.get_tensor(outputs[name]) for name in ("regressors", "classificators"))
            (seen,) = decode(boxes, logits, centres, THRESHOLD)
            found = blend_overlapping(seen, 0.3)
            return [row[:4] / factor for row in found]

        super().__init__(boxes_of)


class Back(_LiteRT):
    """The network for groups, 256 px."""

    def __init__(self) -> None:
        super().__init__("blazeface-back", stride=16)


class Short(_LiteRT):
    """The network for portraits, 128 px."""

    def __init__(self) -> None:
        super().__init__("blazeface-short", stride=8)


class _Mediapipe(Detector):
    """The solution `face_detection` of mediapipe."""

    def __init__(self, model: int) -> None:
        import mediapipe

        solution = mediapipe.solutions.face_detection.FaceDetection(
            model_selection=model, min_detection_confidence=THRESHOLD
        )

        def boxes_of(photo: Pixels) -> Boxes:
            height, width = photo.shape[:2]
            boxes = [one.location_data.relative_bounding_box for one in solution.process(photo).detections or ()]
            return [
                (box.xmin * width, box.ymin * height, (box.xmin + box.width) * width, (box.ymin + box.height) * height)
                for box in boxes
            ]

        super().__init__(boxes_of)


class MediapipeShort(_Mediapipe):
    """Its model for faces within two metres."""

    def __init__(self) -> None:
        super().__init__(0)


class MediapipeFull(_Mediapipe):
    """Its model for faces within five metres."""

    def __init__(self) -> None:
        super().__init__(1)


class Mtcnn(Detector):
    """The MTCNN of facenet-pytorch with its defaults: its package from .venv-baselines, torch from .venv-training."""

    def __init__(self) -> None:
        sys.path.extend(map(str, (ROOT / ".venv-baselines" / "lib").glob("python3*/site-packages")))
        import torch
        from facenet_pytorch import MTCNN

        network = MTCNN(keep_all=True, device=torch.device("cpu"))

        def boxes_of(photo: Pixels) -> Boxes:
            boxes, _ = network.detect(photo)
            return [] if boxes is None else list(boxes)

        super().__init__(boxes_of)


def _pixels(photo: str) -> Pixels:
    with Image.open(photo) as image:
        return np.asarray(image.convert("RGB"))
