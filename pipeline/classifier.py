"""The face classifier in PyTorch: EfficientNet-Lite0, one logit for P(fake).

Needed for training, for the CUDA engine and as the reference of the ONNX file; the CPU engine never imports it.

Source: Tan and Le, "EfficientNet" (arXiv:1905.11946); the Lite variant (TensorFlow, 2020) drops
squeeze-and-excitation and takes ReLU6 for swish, which CPUs run faster and quantise better. Blocks and names are those
of efficientnet-pytorch, so its ImageNet weights load with every key matched.
"""

from pathlib import Path
from typing import Any

import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import BlockDecoder, GlobalParams
from safetensors.torch import load_file
from torch import nn

# B0's stages without squeeze-and-excitation: repeats, kernel, stride, expansion, channels in and out
LITE0_BLOCKS = [
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r2_k5_s22_e6_i24_o40",
    "r3_k3_s22_e6_i40_o80",
    "r3_k5_s11_e6_i80_o112",
    "r4_k5_s22_e6_i112_o192",
    "r1_k3_s11_e6_i192_o320",
]
CLOSER = 16  # the closer look leaves out a sixteenth of the crop on each side


def efficientnet_lite0(classes: int = 1, input_size: int = 160, dropout: float = 0.2) -> nn.Module:
    """An EfficientNet-Lite0 with random weights: float [N, 3, S, S] -> logits [N, classes].

    S is `input_size` pixels, a multiple of 32: the padding is fixed for it, which keeps the exported graph static.
    """
    model: nn.Module = EfficientNet(
        BlockDecoder.decode(LITE0_BLOCKS),
        GlobalParams(
            width_coefficient=1.0,
            depth_coefficient=1.0,
            image_size=input_size,
            dropout_rate=dropout,
            num_classes=classes,
            batch_norm_momentum=0.99,
            batch_norm_epsilon=1e-3,
            drop_connect_rate=0.2,
            depth_divisor=8,
            min_depth=None,
            include_top=True,
        ),
    )
    for module in model.modules():
        if hasattr(module, "_swish"):
            module._swish = nn.ReLU6(inplace=True)  # noqa: SLF001 - the package offers no other door to its activation
    return model


class FourLooks(nn.Module):
    """Four looks at each crop, as it is and one eighth closer, each also mirrored: their mean logit, and its evidence.

    float [N, 3, S, S] -> logits [N, 1] and evidence [N, 2, S / 32, S / 32]. A forgery's traces do not depend on the
    side of the face or on the exact frame, so the mean is steadier than one look. It is part of the exported graph:
    every engine looks in the same way.

    Evidence is the class activation map (Zhou et al., "Learning Deep Features for Discriminative Localization",
    arXiv:1512.04150) with the bias in it, of the crop as it is and of its inner seven eighths. The head is linear in
    what it pools, so the map is exact: its mean is the logit.
    """

    network: Any  # efficientnet_pytorch declares no types

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        edge = pixels.shape[-1] // CLOSER
        inner = pixels[..., edge:-edge, edge:-edge]
        closer = nn.functional.interpolate(inner, size=pixels.shape[-2:], mode="bilinear", align_corners=False)
        looks = torch.cat([pixels, closer, pixels.flip(-1), closer.flip(-1)])
        features = self.network.extract_features(looks)
        head: nn.Linear = self.network._fc  # noqa: SLF001 - the package offers no other door to its last layer
        logits: torch.Tensor = head(features.mean(dim=(2, 3)))
        maps = nn.functional.conv2d(features, head.weight[:, :, None, None], head.bias)
        plain, mirrored = maps.squeeze(1).unflatten(0, (2, 2, -1))
        evidence = ((plain + mirrored.flip(-1)) / 2).transpose(0, 1)
        return logits.unflatten(0, (4, -1)).mean(dim=0), evidence


def classifier_of(state: dict[str, torch.Tensor], input_size: int) -> nn.Module:
    """The classifier as it scores, with these weights (fp16 or fp32): float32, eval mode, every key matched."""
    network = efficientnet_lite0(input_size=input_size)
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, strict=True)
    return FourLooks(network).eval()


def load_classifier(weights: Path, input_size: int) -> nn.Module:
    """The classifier as it scores, with the weights of a safetensors file."""
    return classifier_of(load_file(weights), input_size)


def prepare(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Normalise uint8 RGB pixels [N, 3, S, S] of 0..255 to the classifier's float input."""
    shape = (1, 3, 1, 1)
    return (pixels.float() - pixels.new_tensor(mean, dtype=torch.float32).view(shape)) / pixels.new_tensor(
        std, dtype=torch.float32
    ).view(shape)
