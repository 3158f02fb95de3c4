"""Engines run a network; two of them give the same numbers.

OnnxEngine is the default: the fastest on a CPU, and it needs no torch. TorchEngine serves CUDA and is the reference
that a test holds the other to.
"""

import os
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from pipeline.weights import WeightsCard

if TYPE_CHECKING:
    from torch import nn

Floats = npt.NDArray[np.float32]


class Engine(Protocol):
    """A network with its weights, ready to run."""

    card: WeightsCard

    def run(self, pixels: Floats) -> list[Floats]:
        """Normalised RGB [N, 3, H, W] -> the network's outputs, each float32 with N first."""


class OnnxEngine:
    """ONNX Runtime on the CPU. `threads`: 0 means all cores."""

    def __init__(self, card: WeightsCard, threads: int = 0) -> None:
        self.card = card
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        # Waiting threads would otherwise spin, and take the cores from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = card.file("onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, pixels: Floats) -> list[Floats]:
        """See Engine."""
        return [np.asarray(output, np.float32) for output in self._session.run(None, {self._input: pixels})]


class TorchEngine:
    """PyTorch, eager and channels-last. `device` as torch names it; `dtype`: float32, float16 or bfloat16."""

    def __init__(self, card: WeightsCard, device: str = "cuda", dtype: str = "float32") -> None:
        import torch

        self.card = card
        self._device = torch.device(device)
        self._dtype: torch.dtype = getattr(torch, dtype)
        network = build_network(card).to(self._device, self._dtype)
        self._network = network.to(memory_format=torch.channels_last).eval()

    def run(self, pixels: Floats) -> list[Floats]:
        """See Engine."""
        import torch

        with torch.inference_mode():
            here = torch.from_numpy(pixels).to(self._device, self._dtype, memory_format=torch.channels_last)
            answer = self._network(here)
            outputs = answer if isinstance(answer, tuple) else (answer,)
            return [output.float().cpu().numpy() for output in outputs]


def build_network(card: WeightsCard) -> "nn.Module":
    """The torch network that a card describes, with its weights, on the CPU in float32."""
    family, _, variant = card.name.partition("-")
    if family == "blazeface":
        from pipeline.blazeface import load_blazeface

        return load_blazeface(card.file("safetensors"), variant)
    from pipeline.classifier import load_classifier

    return load_classifier(card.file("safetensors"), card.input_size)
