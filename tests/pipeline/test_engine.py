"""The ONNX engine: what it cuts into passes and runs side by side is what the network gives, in order."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.engine import OnnxEngine, Pixels, passes, usable_cores
from pipeline.weights import MODELS, load_card

SHORT = load_card(MODELS / "blazeface-short.json")


def pictures(count: int, height: int = 128, width: int = 128, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def reference() -> OnnxEngine:
    return OnnxEngine(SHORT, threads=1, images=64)


@pytest.mark.parametrize(("threads", "images"), [(1, 1), (2, 1), (2, 3), (3, 4), (8, 2)])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_passes_come_back_in_order(reference: OnnxEngine, threads: int, images: int, count: int) -> None:
    pixels = pictures(count)
    outputs, expected = OnnxEngine(SHORT, threads, images).run(pixels), reference.run(pixels)
    assert [output.shape for output in outputs] == [(count, 896, 16), (count, 896, 1)]
    for output, wanted in zip(outputs, expected, strict=True):
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, wanted, atol=1e-3)


def test_any_canvas_whose_sides_the_network_can_take(reference: OnnxEngine) -> None:
    boxes, logits = reference.run(pictures(3, 96, 160))
    assert boxes.shape[:2] == logits.shape[:2] == (3, 12 * 20 * 2 + 6 * 10 * 6)


def test_threads_may_call_one_engine_at_the_same_time(reference: OnnxEngine) -> None:
    engine = OnnxEngine(SHORT, threads=2)
    batches = [pictures(count, seed=count) for count in (1, 2, 5, 3, 1, 4)]
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(engine.run, batches))
    for pixels, outputs in zip(batches, answers, strict=True):
        np.testing.assert_allclose(outputs[0], reference.run(pixels)[0], atol=1e-3)


def test_a_pass_counts_in_pixels_so_that_larger_pictures_come_in_smaller_ones() -> None:
    def sizes(pixels: Pixels) -> list[int]:
        return [len(part) for part in passes(pixels, 4 * 64 * 64)]

    assert sizes(pictures(9, 64, 64)) == [4, 4, 1]
    assert sizes(pictures(3, 128, 64)) == [2, 1]
    assert sizes(pictures(2, 256, 256)) == [1, 1]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")
def test_a_process_that_is_pinned_uses_its_own_cores_alone() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    code += "from pipeline.engine import usable_cores; from pipeline.scan import Scanner;"
    code += "scanner = Scanner(); print(usable_cores(), scanner._decoders.size); scanner.close()"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["1", "1"]
    assert usable_cores() == len(os.sched_getaffinity(0))
