"""Write the shipped classifier once more, in eight bits: `python -m training quantise`.

Static quantisation (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv:1712.05877): weights per output channel, activations per layer, by the least and the greatest value
that real training crops give. The first and the last layers stay float32: they are cheap, and sensitive.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from pipeline.crops import resize
from pipeline.weights import load_card, sha256_of
from training.data import DataError, Example, Pictures, Pixels, data_folder, open_pictures, read_manifest, read_rgb
from training.subject import CARD

CROPS = 160
AT_ONCE = 4
SEED = 1
FIRST, LAST = 2, 2  # convolutions that stay float32: the stem and its depthwise one; the head and its map


class _Crops(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime brings no types
    """Crops uint8 [N, S, S, 3] in small batches, as the quantiser asks for them."""

    def __init__(self, crops: Iterator[Pixels]) -> None:
        self._crops = crops

    def get_next(self) -> dict[str, Pixels] | None:
        """The next batch by the input's name; None after the last."""
        batch = [crop for crop, _ in zip(self._crops, range(AT_ONCE), strict=False)]
        return {"pixels": np.stack(batch)} if batch else None


def quantise(card_path: Path, examples: Sequence[Example], pictures: Pictures) -> Path:
    """Write NAME-int8.onnx beside the card, calibrated on these crops, and name it in the card; the file's path."""
    card = load_card(card_path)
    size = card.input_size
    crops = (resize(read_rgb(example, pictures), size, size) for example in examples)
    out = card_path.with_name(f"{card.name}-int8.onnx")
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(card.file("onnx"), prepared, skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
        quantize_static(
            prepared,
            out,
            _Crops(crops),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Clip"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            nodes_to_exclude=convolutions[:FIRST] + convolutions[-LAST:],
        )
    facts = json.loads(card_path.read_text(encoding="utf-8"))
    facts["files"]["onnx-int8"] = {"file": out.name, "sha256": sha256_of(out)}
    card_path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    data = data_folder()
    parser.add_argument("--card", type=Path, default=CARD, help="the weights card; default: the one that ships")
    parser.add_argument(
        "--manifest", type=Path, default=data / "dfdc_faces_224.csv", help="its training crops calibrate"
    )
    parser.add_argument("--root", type=Path, default=data / "dfdc_faces_224.zip", help="folder or zip of the crops")
    parser.add_argument("--crops", type=int, default=CROPS, help="how many of them")


def main(args: argparse.Namespace) -> int:
    """Run the command; prints the file's path. 2 when the data cannot be used."""
    try:
        examples = read_manifest(args.manifest, "train")
        chosen = random.Random(SEED).sample(examples, min(args.crops, len(examples)))
        out = quantise(args.card, chosen, open_pictures(args.root))
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{out}\n")
    return 0
