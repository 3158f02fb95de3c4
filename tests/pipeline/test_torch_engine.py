"""The two engines give the same numbers: torch is the reference, ONNX Runtime is what runs."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.engine import OnnxEngine, TorchEngine
from pipeline.scan import CLASSIFIER, Scanner, ScannerSettings
from pipeline.weights import MODELS, load_card
from tests.pipeline.photos import COLLINS, GROUP, HOPPER, LANDSCAPE

PHOTOS = [path.read_bytes() for path in (GROUP, LANDSCAPE, COLLINS, HOPPER)]


@pytest.mark.parametrize("card", [CLASSIFIER, MODELS / "blazeface-back.json", MODELS / "blazeface-short.json"])
@pytest.mark.parametrize("count", [1, 3])
def test_engines_agree_on_raw_outputs(card: Path, count: int) -> None:
    loaded = load_card(card)
    size = loaded.input_size
    pixels = np.random.default_rng(count).uniform(-1, 1, (count, 3, size, size)).astype(np.float32)
    ours, reference = OnnxEngine(loaded).run(pixels), TorchEngine(loaded, "cpu").run(pixels)
    assert len(ours) == len(reference)
    for output, expected in zip(ours, reference, strict=True):
        assert output.shape == expected.shape
        assert output.shape[0] == count
        assert np.abs(output - expected).max() < 1e-3


def test_scanners_agree_on_real_photos() -> None:
    with Scanner() as onnx, Scanner(ScannerSettings(engine="torch", device="cpu")) as torch:
        for ours, reference in zip(onnx.scan(PHOTOS), torch.scan(PHOTOS), strict=True):
            assert len(ours.faces) == len(reference.faces)
            for face, expected in zip(ours.faces, reference.faces, strict=True):
                assert face.box.left == pytest.approx(expected.box.left, abs=0.05)
                assert face.score == pytest.approx(expected.score, abs=1e-3)


def test_half_precision_stays_close_to_full() -> None:
    card = load_card(CLASSIFIER)
    pixels = np.random.default_rng(7).uniform(-1, 1, (2, 3, card.input_size, card.input_size)).astype(np.float32)
    rough, _ = TorchEngine(card, "cpu", "bfloat16").run(pixels)
    exact, _ = TorchEngine(card, "cpu").run(pixels)
    assert rough.dtype == np.float32
    assert np.abs(rough - exact).max() < 0.25
    assert not np.array_equal(rough, exact)
