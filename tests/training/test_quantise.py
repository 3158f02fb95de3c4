"""Quantising writes a file beside the others and names it in the card."""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pipeline.classifier import efficientnet_lite0
from pipeline.engine import OnnxEngine
from pipeline.weights import load_card
from training.export import write_model
from training.quantise import add_arguments, main

SIZE = 64


def quantise(*words: str | Path) -> int:
    parser = ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args([str(word) for word in words]))


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    state = {k: 2 * v if v.dim() == 4 else v for k, v in efficientnet_lite0(input_size=SIZE).state_dict().items()}
    return write_model(state, SIZE, tmp_path_factory.mktemp("models"), {"version": "9.9.9"})


def test_the_card_names_a_file_whose_outer_layers_stay_in_full(card: Path, manifest: Path) -> None:
    before = load_card(card)
    assert quantise("--card", card, "--manifest", manifest, "--root", manifest.with_suffix("")) == 0
    after = load_card(card)
    assert {name: after.files[name] for name in before.files} == before.files
    graph = onnx.load(after.file("onnx-int8")).graph
    producers = {output: node.op_type for node in graph.node for output in node.output}
    kinds = [producers.get(node.input[1], "float32") for node in graph.node if node.op_type == "Conv"]
    assert kinds[:2] == kinds[-2:] == ["float32", "float32"]
    assert set(kinds[2:-2]) == {"DequantizeLinear"}
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    full, rounded = (OnnxEngine(after, file=file).run(pixels)[0] for file in ("onnx", "onnx-int8"))
    np.testing.assert_allclose(rounded, full, atol=0.01)
    assert not np.array_equal(rounded, full)


def test_crops_that_are_not_there_are_refused(card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = card.read_bytes()
    assert quantise("--card", card, "--manifest", tmp_path / "none.csv", "--root", tmp_path) == 2
    assert "none.csv cannot be read" in capsys.readouterr().err
    assert card.read_bytes() == before
