from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.classifier import efficientnet_lite0
from pipeline.engine import OnnxEngine
from pipeline.torch_engine import TorchEngine
from pipeline.weights import WeightsCard, WeightsError, load_card
from training.config import TrainConfig
from training.export import add_arguments, main, read_checkpoint, write_model
from training.subject import CARD
from training.train import save, start

SIZE = 64


def export_command(*words: str | Path) -> int:
    parser = ArgumentParser()
    add_arguments(parser)
    fixed = ["--version", "9.9.9", "--spent", "nothing"]
    return main(parser.parse_args([*fixed, *(str(word) for word in words)]))


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> WeightsCard:
    torch.manual_seed(0)
    # kernels larger than those it starts with: the signal of such a small picture would fade on its way
    state = {k: 2 * v if v.dim() == 4 else v for k, v in efficientnet_lite0(input_size=SIZE).state_dict().items()}
    return load_card(write_model(state, SIZE, tmp_path_factory.mktemp("models"), {"version": "9.9.9", "margin": 0.2}))


def test_both_engines_run_what_is_exported_to_the_same_logits(card: WeightsCard) -> None:
    assert (card.version, card.input_size, card.margin) == ("9.9.9", SIZE, 0.2)
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    by_onnx, by_torch = OnnxEngine(card).run(pixels)[0], TorchEngine(card, device="cpu").run(pixels)[0]
    assert by_onnx.shape == (3, 1)
    assert by_onnx.std() > 1e-3
    np.testing.assert_allclose(by_onnx, by_torch, atol=1e-5)


def test_the_onnx_file_names_no_file_of_the_machine(card: WeightsCard) -> None:
    assert str(Path.cwd()).encode() not in card.file("onnx").read_bytes()


def test_a_changed_file_is_refused(card: WeightsCard) -> None:
    weights = card.file("onnx")
    whole = weights.read_bytes()
    weights.write_bytes(whole + b"\0")
    with pytest.raises(WeightsError, match="not the file its card describes"):
        OnnxEngine(card)
    weights.write_bytes(whole)


def test_exporting_the_shipped_weights_again_gives_the_same_logits(tmp_path: Path) -> None:
    shipped = load_card(CARD)
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(shipped.file("safetensors")).items()}
    again = load_card(write_model(state, shipped.input_size, tmp_path, {"version": "again"}))
    assert again.weights_sha256 == shipped.weights_sha256
    size = shipped.input_size
    pixels = np.random.default_rng(1).integers(0, 256, (4, size, size, 3), np.uint8)
    np.testing.assert_allclose(OnnxEngine(again).run(pixels)[0], OnnxEngine(shipped).run(pixels)[0], atol=1e-5)


def test_without_its_checkpoint_or_data_nothing_is_written(
    config: TrainConfig, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, broken = tmp_path / "models", tmp_path / "step-0000001.safetensors"
    assert export_command("--checkpoint", broken, "--out", out) == 2
    assert f"{broken} is no checkpoint" in capsys.readouterr().err
    broken.write_bytes(b"torn")
    assert export_command("--checkpoint", broken, "--out", out) == 2
    assert export_command("--checkpoint", load_card(CARD).file("safetensors"), "--out", out) == 2
    assert "it carries no settings" in capsys.readouterr().err

    save(start(config), config, tmp_path)
    checkpoint = tmp_path / "step-0000000.safetensors"
    assert read_checkpoint(checkpoint)[1:] == (config, 0)
    manifest.unlink()
    assert export_command("--checkpoint", checkpoint, "--out", out) == 2
    assert "crops.csv cannot be read" in capsys.readouterr().err
    assert not out.exists()
