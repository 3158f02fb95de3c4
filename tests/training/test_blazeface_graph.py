"""The detectors' graph is one that ONNX Runtime runs as convolutions and little else."""

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest

from pipeline.weights import MODELS, load_card


@pytest.mark.parametrize("variant", ["back", "short"])
def test_no_shortcut_leaves_the_layout_that_convolutions_run_in(variant: str, tmp_path: Path) -> None:
    """Each way out of the blocked layout and back is a copy of a whole map; the exporter's graph had over twenty."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3  # it warns that the file is for this machine alone: so it is meant
    path = load_card(MODELS / f"blazeface-{variant}.json").file("onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert kinds["Conv"] > 30
    assert not kinds["Add"] + kinds["Relu"] + kinds["Pad"] + kinds["ReorderInput"]
    assert kinds["ReorderOutput"] == 4  # the heads: boxes and scores of two maps
