"""BlazeFace as an ONNX graph that ONNX Runtime runs without a detour.

torch's exporter writes the network as torch runs it. ONNX Runtime then leaves its blocked channel layout, and comes
back, around every shortcut: there the channels are padded with zeros, and behind the asymmetric padding it no longer
knows that both branches have one shape. In this graph

- padding is SAME_UPPER, as in the published TFLite graph, which keeps the shapes known;
- every width is rounded up to WIDTH with channels that stay zero. ONNX Runtime does that to each convolution anyway;
- a block that widens its input computes the channels that have a shortcut, and those that have none, apart.

Every addition and ReLU then becomes part of a convolution. Normalisation is in the graph: it takes pixels as they are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from pipeline.blazeface import LAYOUTS, VALUES_PER_ANCHOR

Floats = npt.NDArray[np.float32]

ONNX_OPSET = 18
IR_VERSION = 10
WIDTH = 16  # float32 channels in one AVX-512 register
MIDDLE = 127.5  # pixels of 0..255 become (pixel - MIDDLE) / MIDDLE


def blazeface_graph(weights: Mapping[str, Floats], variant: str) -> ModelProto:
    """The graph of `pipeline.blazeface.BlazeFace(variant)` with these weights, float32 under the names it gives them.

    RGB `pixels` uint8 [N, H, W, 3] -> `boxes` [N, A, 16], `logits` [N, A, 1]; N, H and W are free, H and W multiples
    of the coarse stride.
    """
    layout = LAYOUTS[variant]
    graph = _Graph(weights)
    x = graph.add("Transpose", "pixels", perm=[0, 3, 1, 2])
    x = graph.add("Cast", x, to=TensorProto.FLOAT)
    x = graph.add("Sub", x, graph.constant(np.float32(MIDDLE)))
    width = _whole(layout.stem)
    x = graph.add("Relu", graph.convolution(x, "stem", slice(0, width), 3, stride=2, scale=1 / MIDDLE))
    for index, (channels, stride) in enumerate(layout.fine):
        x = graph.block(x, f"fine.{index}", width, channels, stride, residual=True)
        width = _whole(channels)
    maps = [("fine", x, width)]
    for index, (channels, stride) in enumerate(layout.coarse):
        x = graph.block(x, f"coarse.{index}", width, channels, stride, residual=layout.coarse_residual)
        width = _whole(channels)
    maps.append(("coarse", x, width))
    graph.head("boxes", maps, "boxes", VALUES_PER_ANCHOR)
    graph.head("logits", maps, "scores", 1)
    return graph.model(f"blazeface-{variant}")


class _Graph:
    """Nodes and constants in the making; each method adds some and returns the name of the value they give."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self._weights = weights
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: npt.ArrayLike) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def convolution(
        self, x: str, name: str, out: slice, width: int, *, stride: int = 1, groups: int = 1, scale: float = 1.0
    ) -> str:
        """The channels `out` of the convolution `name` over `width` channels; those that it does not have are zero."""
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        more = max(0, out.stop - len(weight))
        weight = np.pad(weight * np.float32(scale), ((0, more), (0, width // groups - weight.shape[1]), (0, 0), (0, 0)))
        return self.add(
            "Conv",
            x,
            self.constant(weight[out]),
            self.constant(np.pad(bias, (0, more))[out]),
            kernel_shape=weight.shape[2:],
            strides=[stride, stride],
            group=groups,
            auto_pad="SAME_UPPER",
        )

    def block(self, x: str, name: str, width: int, channels: int, stride: int, *, residual: bool) -> str:
        """`pipeline.blazeface.Block`: `width` channels in, `channels` out, rounded up."""
        deep = self.convolution(x, f"{name}.depthwise", slice(0, width), width, stride=stride, groups=width)
        wider = _whole(channels)
        if not residual:
            return self.add("Relu", self.convolution(deep, f"{name}.pointwise", slice(0, wider), width))
        if stride == 2:
            x = self.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")
        old = self.convolution(deep, f"{name}.pointwise", slice(0, width), width)
        old = self.add("Relu", self.add("Add", old, x))
        if wider == width:
            return old
        new = self.add("Relu", self.convolution(deep, f"{name}.pointwise", slice(width, wider), width))
        return self.add("Concat", old, new, axis=1)

    def head(self, output: str, maps: list[tuple[str, str, int]], kind: str, values: int) -> None:
        """The output [N, A, values] of two maps (name, value, channels): row by row, the fine map's anchors first."""
        rows = []
        for name, x, width in maps:
            layer = f"{name}_{kind}"
            found = self.convolution(x, layer, slice(0, len(self._weights[f"{layer}.weight"])), width)
            found = self.add("Transpose", found, perm=[0, 2, 3, 1])
            rows.append(self.add("Reshape", found, self.constant(np.array([0, -1, values]))))
        self.add("Concat", *rows, name=output, axis=1)

    def model(self, name: str) -> ModelProto:
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", "H", "W", 3])],
            [
                helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", "A", VALUES_PER_ANCHOR]),
                helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", "A", 1]),
            ],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", ONNX_OPSET)], ir_version=IR_VERSION)
        checker.check_model(model)
        return model


def _whole(channels: int) -> int:
    return -(-channels // WIDTH) * WIDTH
