"""What uploads suffer, done to training crops: framing, mirror, colour, blur, scaling, noise, JPEG."""

import torch
from torchvision.transforms import InterpolationMode, v2

BORDER = 26  # pixels around a crop of 224


def training_transform(size: int) -> v2.Compose:
    """uint8 RGB [3, H, W] -> uint8 RGB [3, size, size].

    Every label and every source goes through the same path, so that compression and sharpness give nothing away. A
    third of the crops keep their finest detail: the traces of a generator stand there, and any harm takes them away.
    """
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            # Framing: up to 20 % closer and 16 % wider than the detector's box, and off its centre. What a wider
            # frame would show is mirrored in, as in `pipeline.crops`.
            v2.Pad(BORDER, padding_mode="reflect"),
            v2.RandomResizedCrop(size, scale=(0.42, 0.88), ratio=(0.92, 1.08), antialias=True),
            v2.RandomApply([v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.25, hue=0.02)], p=0.6),
            v2.RandomApply([v2.RandomGrayscale(p=1.0)], p=0.12),
            v2.RandomApply([Rescale(0.35, 0.9)], p=0.25),
            v2.RandomApply([v2.GaussianBlur(5, sigma=(0.3, 1.5))], p=0.1),
            v2.RandomApply([v2.GaussianNoise(sigma=0.03)], p=0.1),  # a fraction of 255
            v2.RandomApply([v2.RandomAdjustSharpness(2.0, p=1.0)], p=0.08),  # phones and portals sharpen
            v2.RandomApply([v2.JPEG((30, 95))], p=0.4),
            v2.RandomApply([Rescale(0.6, 0.95), v2.JPEG((60, 95))], p=0.1),  # a portal, or a screenshot, once more
        ]
    )


def evaluation_transform(size: int) -> v2.Compose:
    """uint8 RGB [3, H, W] -> uint8 RGB [3, size, size], nothing random."""
    return v2.Compose([v2.Resize((size, size), interpolation=InterpolationMode.BILINEAR, antialias=True)])


class Rescale(torch.nn.Module):
    """Shrink to a random fraction and enlarge again: what a thumbnail or a chat application does."""

    def __init__(self, smallest: float, largest: float) -> None:
        super().__init__()
        self.smallest, self.largest = smallest, largest

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [3, H, W] -> the same shape."""
        height, width = pixels.shape[-2:]
        fraction = float(torch.empty(1).uniform_(self.smallest, self.largest))
        small = v2.functional.resize(
            pixels, [max(8, int(height * fraction)), max(8, int(width * fraction))], antialias=True
        )
        return v2.functional.resize(small, [height, width], antialias=True)
