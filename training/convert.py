"""BlazeFace weights: from MediaPipe's TFLite file to safetensors, ONNX and a weights card.

The TFLite graph is a plain list of operations, its weights float16 behind DEQUANTIZE. Its convolutions stand in the
same order as those of `pipeline.blazeface.BlazeFace`, so conversion walks both lists side by side and refuses the file
where a shape differs.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import tflite
import torch
from safetensors.torch import save
from torch import Tensor

from pipeline.blazeface import LAYOUTS, BlazeFace
from training.blazeface_graph import blazeface_graph

INPUT_SIZES = {"short": 128, "back": 256}
SOURCE = "Google MediaPipe BlazeFace ({variant}), TFLite file {name} with sha256 {sha256}"
CONVOLUTIONS = (tflite.BuiltinOperator.CONV_2D, tflite.BuiltinOperator.DEPTHWISE_CONV_2D)


class NotBlazeFaceError(ValueError):
    """The TFLite file is not the BlazeFace variant that was asked for: check --variant and the file."""


def run(tflite_path: Path, out_dir: Path, variant: str) -> Path:
    """Write `blazeface-<variant>.safetensors`, `.onnx` and `.json` into `out_dir`; return the card's path.

    Raises NotBlazeFaceError where the file's convolutions are not those of `variant`.
    """
    source = tflite_path.read_bytes()
    name = f"blazeface-{variant}"
    state = read_state(source, variant)
    out_dir.mkdir(parents=True, exist_ok=True)
    weights, onnx, card = (out_dir / f"{name}.{suffix}" for suffix in ("safetensors", "onnx", "json"))
    weights.write_bytes(save({key: tensor.half() for key, tensor in state.items()}))
    export_onnx(state, onnx, variant)
    facts = {
        "name": name,
        "version": "1.0.0",
        "files": {
            "safetensors": {"file": weights.name, "sha256": _sha256(weights.read_bytes())},
            "onnx": {"file": onnx.name, "sha256": _sha256(onnx.read_bytes())},
        },
        "input_size": INPUT_SIZES[variant],
        "mean": [127.5, 127.5, 127.5],
        "std": [127.5, 127.5, 127.5],
        "source": SOURCE.format(variant=variant, name=tflite_path.name, sha256=_sha256(source)),
        "licence": "Apache-2.0",
    }
    card.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return card


def read_state(source: bytes, variant: str) -> dict[str, Tensor]:
    """The state dict of `BlazeFace(variant)`, float32, from the bytes of a TFLite file."""
    network = BlazeFace(variant)
    expected = network.state_dict()
    names = [name.removesuffix(".weight") for name in expected if name.endswith(".weight")]
    found = list(_convolutions(source))
    if len(found) != len(names):
        msg = f"{variant} has {len(names)} convolutions, the file has {len(found)}"
        raise NotBlazeFaceError(msg)
    state: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, found, strict=True):
        if weight.shape != expected[f"{name}.weight"].shape:
            msg = f"{name} should have the shape {tuple(expected[f'{name}.weight'].shape)}, not {weight.shape}"
            raise NotBlazeFaceError(msg)
        state[f"{name}.weight"] = torch.from_numpy(weight)
        state[f"{name}.bias"] = torch.from_numpy(bias)
    return state


def export_onnx(state: dict[str, Tensor], path: Path, variant: str) -> None:
    """Write an ONNX file with the input `pixels` [N, H, W, 3] and outputs `boxes`, `logits`; N, H and W are free."""
    onnx.save(blazeface_graph({name: tensor.float().numpy() for name, tensor in state.items()}, variant), path)


def _convolutions(source: bytes) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """(weight, bias) of every convolution in the graph's order, weights in torch's axis order."""
    try:
        model = tflite.Model.GetRootAsModel(source, 0)
        graph = model.Subgraphs(0)
    except Exception as error:
        msg = "the file is not a TFLite model"
        raise NotBlazeFaceError(msg) from error
    halves = {}  # a dequantized tensor's index -> the float16 constant behind it
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        kind = model.OperatorCodes(operator.OpcodeIndex()).DeprecatedBuiltinCode()
        inputs = [int(tensor) for tensor in operator.InputsAsNumpy()]
        if kind == tflite.BuiltinOperator.DEQUANTIZE:
            halves[int(operator.Outputs(0))] = inputs[0]
        elif kind in CONVOLUTIONS:
            weight, bias = (_constant(model, graph, halves.get(tensor, tensor)) for tensor in inputs[1:3])
            # TFLite keeps (out, h, w, in), and (1, h, w, channels) for depthwise; torch wants (out, in, h, w).
            order = (3, 0, 1, 2) if kind == tflite.BuiltinOperator.DEPTHWISE_CONV_2D else (0, 3, 1, 2)
            yield np.ascontiguousarray(weight.transpose(order)), bias


def _constant(model: tflite.Model, graph: tflite.SubGraph, index: int) -> npt.NDArray[np.float32]:
    tensor = graph.Tensors(index)
    kind = np.float16 if tensor.Type() == tflite.TensorType.FLOAT16 else np.float32
    values = model.Buffers(tensor.Buffer()).DataAsNumpy().view(kind).reshape(tensor.ShapeAsNumpy())
    return values.astype(np.float32)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `python -m training convert-blazeface`."""
    parser.add_argument("tflite", type=Path, help="a BlazeFace TFLite file as MediaPipe publishes it")
    parser.add_argument("--variant", choices=sorted(LAYOUTS), required=True, help="which BlazeFace the file holds")
    parser.add_argument("--out", type=Path, default=Path("pipeline/models"), help="the folder to write into")


def main(args: argparse.Namespace) -> int:
    """Convert one file and print the card's path."""
    print(run(args.tflite, args.out, args.variant))
    return 0
