"""The two engines give the same numbers: torch is the reference, ONNX Runtime is what runs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import torch_engine
from pipeline.engine import NoDeviceError, OnnxEngine, Pixels
from pipeline.scan import CLASSIFIER, Scanner, ScannerSettings
from pipeline.torch_engine import TorchEngine
from pipeline.tuning import tuned
from pipeline.weights import MODELS, WeightsCard, load_card
from tests.pipeline.photos import COLLINS, GROUP, HOPPER, LANDSCAPE

PHOTOS = [path.read_bytes() for path in (GROUP, LANDSCAPE, COLLINS, HOPPER)]
SHORT = MODELS / "blazeface-short.json"


def pictures(card: WeightsCard, count: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, card.input_size, card.input_size, 3), np.uint8)


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("path", [CLASSIFIER, MODELS / "blazeface-back.json", SHORT])
@pytest.mark.parametrize("count", [1, 3])
def test_engines_agree_on_raw_outputs(path: Path, count: int, device: str) -> None:
    card = load_card(path)
    pixels = pictures(card, count)
    ours, reference = OnnxEngine(card).run(pixels), TorchEngine(card, device).run(pixels)
    assert len(ours) == len(reference) == 2
    for output, expected in zip(ours, reference, strict=True):
        assert output.shape == expected.shape
        assert output.shape[0] == count
        assert output.dtype == expected.dtype == np.float32
        assert np.abs(output - expected).max() < 1e-3


def test_scanners_agree_on_real_photos(device: str) -> None:
    with Scanner() as onnx, Scanner(ScannerSettings(engine="torch", device=device)) as reference:
        for ours, theirs in zip(onnx.scan(PHOTOS), reference.scan(PHOTOS), strict=True):
            assert len(ours.faces) == len(theirs.faces)
            for face, expected in zip(ours.faces, theirs.faces, strict=True):
                assert face.box.left == pytest.approx(expected.box.left, abs=0.05)
                assert face.score == pytest.approx(expected.score, abs=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close_to_full(device: str, dtype: str) -> None:
    card = load_card(CLASSIFIER)
    pixels = pictures(card, 2)
    rough, _ = TorchEngine(card, device, dtype).run(pixels)
    exact, _ = TorchEngine(card, device).run(pixels)
    assert rough.dtype == np.float32
    assert np.abs(rough - exact).max() < 0.25
    assert not np.array_equal(rough, exact)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11])
def test_what_is_cut_into_passes_comes_back_in_order(device: str, count: int) -> None:
    card = load_card(SHORT)
    engine, whole = TorchEngine(card, device, images=4), TorchEngine(card, device, images=16)
    for seed in (1, 2):  # the second time all buffers hold what the first has left
        pixels = pictures(card, count, seed)
        for output, expected in zip(engine.run(pixels), whole.run(pixels), strict=True):
            assert output.shape == expected.shape
            assert np.abs(output - expected).max() < 1e-3


def test_answers_are_not_overwritten_by_the_next_run(device: str) -> None:
    card = load_card(SHORT)
    engine = TorchEngine(card, device)
    first = engine.run(pictures(card, 2, 1))
    kept = [output.copy() for output in first]
    engine.run(pictures(card, 2, 2))
    for output, expected in zip(first, kept, strict=True):
        assert np.array_equal(output, expected)


def test_a_bounded_number_of_shapes_is_kept(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "SHAPES", 2)
    card = load_card(SHORT)
    engine, reference = TorchEngine(card, device), OnnxEngine(card)
    for side in (32, 64, 96, 32, 96):
        pixels = np.random.default_rng(side).integers(0, 256, (1, side, 64, 3), np.uint8)
        for output, expected in zip(engine.run(pixels), reference.run(pixels), strict=True):
            assert np.abs(output - expected).max() < 1e-3
    assert len(engine._slots) == 2


if torch.cuda.is_available():

    def test_a_shape_that_was_seen_is_replayed_from_its_graph() -> None:
        card = load_card(SHORT)
        engine = TorchEngine(card, "cuda")
        engine.run(pictures(card, 4))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            engine.run(pictures(card, 4, 1))
        names = {event.key for event in profile.key_averages()}
        assert not any("conv" in name for name in names)  # no convolution is launched by itself
else:

    def test_without_a_device_it_is_said_which_is_missing(tmp_path: Path) -> None:
        for start in (lambda: TorchEngine(load_card(SHORT)), lambda: tuned(ScannerSettings(engine="torch"), tmp_path)):
            with pytest.raises(NoDeviceError, match="torch finds no CUDA device"):
                start()
