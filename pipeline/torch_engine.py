"""TorchEngine: PyTorch, for CUDA; on the CPU it is the reference. Imported only when it is asked for."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.engine import Floats, NoDeviceError, Pixels, passes
from pipeline.weights import WeightsCard

PASS_IMAGES = 32
SHAPES = 64  # of passes that are kept with their buffers; on CUDA each has its graphs
WARM_UPS = 3  # runs before a graph is captured: cuDNN chooses its algorithms in them

Outputs = tuple[Tensor, ...]


class TorchEngine:
    """PyTorch, channels-last, under autocast where `dtype` is not float32.

    `device` as torch names it; `dtype`: float32, float16 or bfloat16; `images`: of the card's input size in one pass, 0
    for PASS_IMAGES. Raises NoDeviceError without a CUDA device where one is asked for.

    Passes go through two slots by turn: while the device computes one, the next is copied to it. A pass is filled up to
    a power of two, so that there are few shapes; each has its own buffers and, on CUDA, its own graph.
    """

    def __init__(self, card: WeightsCard, device: str = "cuda", dtype: str = "float32", images: int = 0) -> None:
        self.card = card
        self.images = images or PASS_IMAGES
        self._device = _Device(card, find_device(device), getattr(torch, dtype))
        self._slots: dict[tuple[int, ...], tuple[_Slot, _Slot]] = {}
        self._lock = threading.Lock()

    def run(self, pixels: Pixels) -> list[Floats]:
        """See Engine."""
        parts: list[list[Floats]] = []
        running: list[_Slot] = []
        with self._lock, torch.inference_mode():
            for turn, part in enumerate(passes(pixels, self.images * self.card.input_size**2)):
                if len(running) > 1:
                    parts.append(running.pop(0).collect())
                running.append(self._slots_for(part)[turn % 2])
                running[-1].launch(part)
            parts.extend(slot.collect() for slot in running)
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _slots_for(self, part: Pixels) -> "tuple[_Slot, _Slot]":
        shape = (1 << (len(part) - 1).bit_length(), *part.shape[1:])
        if shape not in self._slots:
            if len(self._slots) == SHAPES:
                self._slots.pop(next(iter(self._slots)))
            self._slots[shape] = (_Slot(self._device, shape), _Slot(self._device, shape))
        return self._slots[shape]


def find_device(name: str) -> torch.device:
    """The device that torch knows by this name. Raises NoDeviceError where it is CUDA's and there is none."""
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise NoDeviceError("torch finds no CUDA device on this machine")
    return device


class _Device:
    """A network on its device, with a stream for copies to it and one for computing. On the CPU streams do nothing."""

    def __init__(self, card: WeightsCard, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.cuda = device.type == "cuda"
        self.module: Any = torch.cuda if self.cuda else torch.cpu
        with torch.device(device):
            self.copying, self.computing = self.module.Stream(), self.module.Stream()
        self._network = build_network(card).to(device).to(memory_format=torch.channels_last)
        self._dtype = dtype
        self._memory = torch.cuda.graph_pool_handle() if self.cuda else None

    def forward(self, pixels: Tensor) -> Outputs:
        """uint8 [N, H, W, 3] on the device -> the network's outputs, float32."""
        half = self._dtype != torch.float32
        # without autocast's cache: a graph must not read weights that the cache has let go of
        with torch.autocast(self.device.type, self._dtype, enabled=half, cache_enabled=False):
            return tuple(output.float() for output in self._network(pixels))

    def prepare(self, pixels: Tensor) -> Callable[[], Outputs]:
        """What computes the outputs of whatever `pixels` then holds: on CUDA the replay of a graph."""
        if not self.cuda:
            return lambda: self.forward(pixels)
        with torch.cuda.stream(self.computing), torch.backends.cudnn.flags(benchmark=True):
            for _ in range(WARM_UPS):
                self.forward(pixels)
        self.computing.synchronize()
        graph = torch.cuda.CUDAGraph()
        # All graphs share their memory: they run one after the other, and outputs leave before the next one starts.
        with torch.cuda.graph(graph, pool=self._memory, stream=self.computing):
            outputs = self.forward(pixels)

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay


class _Slot:
    """The buffers of one pass, uint8 [N, H, W, 3] of a fixed shape, of which the first few pictures count."""

    def __init__(self, device: _Device, shape: tuple[int, ...]) -> None:
        self._on = device
        self._staged = torch.zeros(shape, dtype=torch.uint8, pin_memory=device.cuda)
        self._pixels = torch.zeros(shape, dtype=torch.uint8, device=device.device)
        self._compute = device.prepare(self._pixels)
        self._answers: Outputs = ()
        self._done = device.module.Event()
        self._count = 0

    def launch(self, part: Pixels) -> None:
        """Start a pass; what the slot had before has been collected."""
        on, self._count = self._on, len(part)
        self._staged[: self._count].copy_(torch.from_numpy(part))
        with on.module.stream(on.copying):
            self._pixels.copy_(self._staged, non_blocking=on.cuda)
        on.computing.wait_stream(on.copying)
        with on.module.stream(on.computing):
            outputs = self._compute()
            if not self._answers:
                self._answers = tuple(torch.empty(o.shape, dtype=o.dtype, pin_memory=on.cuda) for o in outputs)
            for answer, output in zip(self._answers, outputs, strict=True):
                answer.copy_(output, non_blocking=on.cuda)
            self._done.record(on.computing)

    def collect(self) -> list[Floats]:
        """Wait for the pass; its outputs, N first."""
        self._done.synchronize()
        return [answer[: self._count].numpy().copy() for answer in self._answers]


class FromPixels(nn.Module):
    """A network behind the normalisation that its card names: uint8 [N, H, W, 3] -> the network's outputs."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.mean = nn.Buffer(torch.tensor(mean).view(1, 3, 1, 1))
        self.std = nn.Buffer(torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Any:
        """See the class."""
        return self.network((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std)


def build_network(card: WeightsCard) -> nn.Module:
    """The torch network that a card describes, from pixels on, with its weights, on the CPU in float32."""
    family, _, variant = card.name.partition("-")
    weights = card.file("safetensors")
    if family == "blazeface":
        from pipeline.blazeface import load_blazeface

        return FromPixels(load_blazeface(weights, variant), card.mean, card.std).eval()
    from pipeline.classifier import load_classifier

    return FromPixels(load_classifier(weights, card.input_size), card.mean, card.std).eval()
