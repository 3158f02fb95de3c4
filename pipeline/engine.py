"""Engines run a network; two of them give the same numbers.

OnnxEngine is the default: the fastest on a CPU, and it needs no torch. `pipeline.torch_engine.TorchEngine` serves CUDA
and is the reference that a test holds the other to. Either takes pixels as they are and cuts what it is given into
passes of the size that runs fastest, so callers hand over as much as they have.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from pipeline.weights import WeightsCard

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

PASS_IMAGES = 1  # what fits the caches of the processors measured so far; pipeline.tuning measures this one


class NoDeviceError(OSError):
    """The device that was asked for is not there."""


class Engine(Protocol):
    """A network with its weights, ready to run."""

    card: WeightsCard
    images: int  # of the card's input size in one pass; may be changed between runs

    def run(self, pixels: Pixels) -> list[Floats]:
        """RGB pixels uint8 [N, H, W, 3] of 0 to 255, N >= 1 -> the network's outputs, each float32 with N first.

        The engine normalises as the card says. Several threads may call it at the same time.
        """


class OnnxEngine:
    """ONNX Runtime on the CPU.

    `threads`: 0 means every core that this process may use. `images`: of the card's input size in one pass, 0 for
    PASS_IMAGES. `file`: which of the card's, "onnx" or "onnx-int8".

    Passes run side by side, each on one thread: threads then wait for one another once a call instead of once a layer,
    and what a small pass computes stays in its core's cache, while a big one's goes to memory and back. Of the last
    passes, that would leave half of the threads or more without one, all threads share each.
    """

    def __init__(self, card: WeightsCard, threads: int = 0, images: int = 0, file: str = "onnx") -> None:
        self.card = card
        self._threads = threads or usable_cores()
        self.images = images or PASS_IMAGES
        path = card.file(file)
        self._alone = _session(path, 1)
        self._shared = _session(path, self._threads) if self._threads > 1 else self._alone
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=card.name)

    def run(self, pixels: Pixels) -> list[Floats]:
        """See Engine."""
        waiting = list(passes(pixels, self.images * self.card.input_size**2))
        rest = len(waiting) % self._threads
        full = len(waiting) - (rest if 2 * rest <= self._threads else 0)
        parts = list(self._pool.map(partial(_outputs, self._alone), waiting[:full]))
        parts += [_outputs(self._shared, one) for one in waiting[full:]]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def passes(pixels: Pixels, most: int) -> Iterator[Pixels]:
    """Pictures [N, H, W, 3] cut into passes of at most `most` pixels, or of one picture where that has more."""
    step = max(1, most // (pixels.shape[1] * pixels.shape[2]))
    for start in range(0, len(pixels), step):
        yield pixels[start : start + step]


def usable_cores() -> int:
    """How many cores this process may use: fewer than the machine has where it is pinned to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _share_memory() -> None:
    """Have all sessions of this process take turns in one arena, which halves what they hold between them."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    _share_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # A plan of the memory is made for each shape and kept; canvases have dozens of shapes.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Waiting threads would otherwise spin, and take the cores from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Sums of eight-bit products overflow on an x86 without VNNI: there it computes in full, to the same numbers.
    options.add_session_config_entry("session.x64quantprecision", "0" if _has_vnni() else "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@cache
def _has_vnni() -> bool:
    """Whether this x86 processor is known to add eight-bit products without overflow. Others ignore the question."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def _outputs(session: onnxruntime.InferenceSession, pixels: Pixels) -> list[Floats]:
    return [np.asarray(output, np.float32) for output in session.run(None, {"pixels": pixels})]
