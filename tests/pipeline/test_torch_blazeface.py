"""BlazeFace in torch and in ONNX gives what the published TFLite models give, on real photos."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from safetensors.torch import load_file

from pipeline.crops import resize
from pipeline.engine import Engine, Floats, OnnxEngine
from pipeline.torch_engine import TorchEngine
from pipeline.weights import MODELS, load_card
from tests.pipeline.photos import SAMPLES, pixels_of
from training.convert import NotBlazeFaceError, read_state, run

REFERENCE = Path(__file__).parent / "reference"
FILES = {"back": REFERENCE / "face_detection_back.tflite", "short": REFERENCE / "face_detection_short_range.tflite"}
PHOTOS = sorted([*SAMPLES.glob("originals/*.jpg"), SAMPLES / "group.jpg", SAMPLES / "landscape.jpg"])


def reference_outputs(variant: str, pixels: Floats) -> tuple[Floats, Floats]:
    """Boxes [1, 896, 16] and logits [1, 896, 1] of the reference runtime, of pixels [1, S, S, 3]."""
    interpreter = Interpreter(str(FILES[variant]))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    outputs = {output["name"]: output["index"] for output in interpreter.get_output_details()}
    return interpreter.get_tensor(outputs["regressors"]), interpreter.get_tensor(outputs["classificators"])


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)), np.float32)


@pytest.fixture(scope="module", params=["torch", "onnx"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("variant", ["back", "short"])
def test_raw_outputs_equal_the_reference_runtime(variant: str, kind: str) -> None:
    card = load_card(MODELS / f"blazeface-{variant}.json")
    engine: Engine = TorchEngine(card, "cpu") if kind == "torch" else OnnxEngine(card)
    assert len(PHOTOS) == 8
    for photo in PHOTOS:
        pixels = resize(pixels_of(photo), card.input_size, card.input_size)[np.newaxis]
        boxes, logits = engine.run(pixels)
        expected_boxes, expected_logits = reference_outputs(variant, (pixels.astype(np.float32) - 127.5) / 127.5)
        assert np.abs(boxes - expected_boxes).max() < 1e-2  # pixels
        assert np.abs(logits - expected_logits).max() < 5e-3
        assert np.abs(sigmoid(logits) - sigmoid(expected_logits)).max() < 1e-3


@pytest.mark.parametrize("variant", ["back", "short"])
def test_the_committed_weights_are_those_of_the_published_file(variant: str) -> None:
    committed = load_file(load_card(MODELS / f"blazeface-{variant}.json").file("safetensors"))
    published = read_state(FILES[variant].read_bytes(), variant)
    assert committed.keys() == published.keys()
    for name, values in committed.items():
        assert values.float().equal(published[name])


def test_converting_again_gives_the_committed_files(tmp_path: Path) -> None:
    committed = load_card(MODELS / "blazeface-short.json")
    again = load_card(run(FILES["short"], tmp_path, "short"))
    assert again.weights_sha256 == committed.weights_sha256
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    for mine, theirs in zip(OnnxEngine(again).run(pixels), OnnxEngine(committed).run(pixels), strict=True):
        assert np.abs(mine - theirs).max() < 1e-4


def test_a_file_of_another_variant_is_refused() -> None:
    with pytest.raises(NotBlazeFaceError, match="convolutions"):
        read_state(FILES["short"].read_bytes(), "back")


def test_a_file_that_is_no_model_is_refused() -> None:
    with pytest.raises(NotBlazeFaceError, match="not a TFLite model"):
        read_state(b"nothing of the kind", "back")
