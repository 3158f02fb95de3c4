"""The classifier's four looks: what is averaged, and that the side of a face does not matter; and its evidence."""

import pytest
import torch

from pipeline.classifier import FourLooks, load_classifier
from pipeline.scan import CLASSIFIER
from pipeline.weights import load_card


@pytest.fixture(scope="module")
def looks() -> torch.nn.Module:
    card = load_card(CLASSIFIER)
    return load_classifier(card.file("safetensors"), card.input_size)


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    return torch.randn(3, 3, 192, 192, generator=torch.Generator().manual_seed(0))


def test_a_crop_and_its_mirror_image_score_the_same(looks: torch.nn.Module, crops: torch.Tensor) -> None:
    with torch.inference_mode():
        (logits, evidence), (mirrored, other) = looks(crops), looks(crops.flip(-1))
    assert (logits.shape, evidence.shape) == ((3, 1), (3, 2, 6, 6))
    torch.testing.assert_close(logits, mirrored, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(evidence, other.flip(-1), atol=1e-4, rtol=1e-4)


def test_the_logit_is_the_mean_of_what_each_look_alone_gives(looks: torch.nn.Module, crops: torch.Tensor) -> None:
    assert isinstance(looks, FourLooks)
    with torch.inference_mode():
        together, evidence = looks(crops)
        closer = torch.nn.functional.interpolate(crops[..., 12:-12, 12:-12], size=(192, 192), mode="bilinear")
        alone = [looks.network(look) for crop in (crops, closer) for look in (crop, crop.flip(-1))]
    torch.testing.assert_close(together, torch.stack(alone).mean(dim=0), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together, alone[0], atol=1e-3)
    for plane, (plain, mirrored) in enumerate((alone[:2], alone[2:])):
        torch.testing.assert_close(evidence[:, plane].mean(dim=(1, 2))[:, None], (plain + mirrored) / 2)
