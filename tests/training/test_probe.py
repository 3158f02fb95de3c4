from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.classifier import efficientnet_lite0
from training.data import open_pictures, read_manifest
from training.probe import look, probe_auc


def test_a_look_gives_the_head_s_input_and_its_score(manifest: Path) -> None:
    torch.manual_seed(0)
    network = efficientnet_lite0(input_size=64).eval()
    examples = read_manifest(manifest)
    features, scores = look(network, 64, examples, open_pictures(manifest.with_suffix("")))
    assert features.shape == (len(examples), 1280)
    head = network.get_submodule("_fc")
    with torch.inference_mode():
        again = head(torch.from_numpy(features).float())[:, 0].sigmoid()
    np.testing.assert_allclose(scores, again.numpy(), atol=1e-6)
    assert not head._forward_pre_hooks


@pytest.mark.parametrize(("apart", "low", "high"), [(0.0, 0.4, 0.6), (1.5, 0.7, 0.9), (8.0, 0.999, 1.0)])
def test_the_probe_finds_what_is_there_and_nothing_else(apart: float, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    source = np.arange(800) % 8 // 7  # one of the second source to seven of the first
    features = rng.normal(0, 3, (800, 40)) + 100
    features[:, 5] += 3 * apart * source  # so many standard deviations
    known, asked = slice(0, 400), slice(400, 800)
    found = probe_auc(features[known], source[known], features[asked], source[asked])
    assert low <= found <= high
