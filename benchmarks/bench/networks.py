"""The networks alone: each engine is given random pixels, so many images at a time, for so many seconds.

Contenders of the model level. The pipeline's engines normalise pixels themselves; LiteRT's files want that done.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.bench.contender import CACHE
from pipeline.engine import Engine, Pixels
from pipeline.scan import ScannerSettings, open_engine
from pipeline.tuning import tuned
from pipeline.weights import MODELS, WeightsCard, load_card

NETWORKS: Final = ("blazeface-back", "blazeface-short", "shield-lite0")
PUBLISHED: Final = Path(__file__).resolve().parents[2] / "tests" / "pipeline" / "reference"
TFLITE: Final = {
    "blazeface-back": PUBLISHED / "face_detection_back.tflite",
    "blazeface-short": PUBLISHED / "face_detection_short_range.tflite",
}
TUNING: Final = CACHE / "tuning.json"  # of one run
SQUARE = 2048  # rows of the matrices whose product shows what the cores can do


def images_per_second(run: Callable[[], object], images: int, seconds: float) -> float:
    """How many images go through in a second, of calls that take so many each; one call warms up."""
    run()
    calls, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < seconds or not calls:
        run()
        calls += 1
    return calls * images / taken


def card_of(network: str) -> WeightsCard:
    """The card of a network that ships."""
    return load_card(MODELS / f"{network}.json")


def random_pixels(card: WeightsCard, batch: int) -> Pixels:
    """Pixels, uint8 [batch, S, S, 3]."""
    size = card.input_size
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)


def as_a_worker(settings: ScannerSettings) -> ScannerSettings:
    """The settings as a worker would choose them on this machine."""
    return tuned(settings, TUNING)


class _Engines:
    """Engines of the pipeline, made when they are first asked for."""

    def __init__(self, settings: ScannerSettings) -> None:
        self._settings = settings
        self._engines: dict[str, Engine] = {}

    def rate(self, network: str, batch: int, seconds: float) -> float:
        """Images a second through a network."""
        if network not in self._engines:
            self._engines[network] = open_engine(self._settings, card_of(network))
        engine = self._engines[network]
        pixels = random_pixels(engine.card, batch)
        return images_per_second(lambda: engine.run(pixels), batch, seconds)


class Onnx(_Engines):
    """The default engine, and what the cores can do by numpy's BLAS."""

    def __init__(self) -> None:
        super().__init__(as_a_worker(ScannerSettings()))

    def peak(self, seconds: float) -> float:
        """GFLOP a second of a product of square matrices in single precision."""
        left, right = np.random.default_rng(0).random((2, SQUARE, SQUARE), np.float32)
        return images_per_second(lambda: left @ right, 1, seconds) * 2 * SQUARE**3 / 1e9


class OnnxInt8(_Engines):
    """The same with the classifier in eight bits."""

    def __init__(self) -> None:
        super().__init__(as_a_worker(ScannerSettings(engine="onnx-int8")))


class Torch(_Engines):
    """Eager torch on the CPU, as the torch engine runs it, and what the cores can do by torch's BLAS."""

    def __init__(self) -> None:
        super().__init__(ScannerSettings(engine="torch", device="cpu"))

    def peak(self, seconds: float) -> float:
        """See Onnx."""
        import torch

        left, right = torch.rand(2, SQUARE, SQUARE)
        return images_per_second(lambda: left @ right, 1, seconds) * 2 * SQUARE**3 / 1e9

    def gflop(self, network: str) -> float:
        """Floating-point operations for one image, in thousands of millions."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from pipeline.torch_engine import build_network

        card = card_of(network)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            build_network(card)(torch.from_numpy(random_pixels(card, 1)))
        return float(counter.get_total_flops() / 1e9)


class LiteRT:
    """The runtime that BlazeFace was published for, with the files as they were published."""

    def rate(self, network: str, batch: int, seconds: float) -> float:
        """See _Engines."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(TFLITE[network]), num_threads=os.cpu_count())
        place = interpreter.get_input_details()[0]["index"]
        card = card_of(network)
        pixels = (random_pixels(card, batch) - np.array(card.mean, np.float32)) / np.array(card.std, np.float32)
        interpreter.resize_tensor_input(place, pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, pixels)
        return images_per_second(interpreter.invoke, batch, seconds)
