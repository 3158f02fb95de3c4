"""The classifier in eight bits: an option, close to the one in full, and never mistaken for it."""

import numpy as np
import pytest

from pipeline.engine import OnnxEngine
from pipeline.scan import CLASSIFIER, Scanner, ScannerSettings
from pipeline.weights import load_card
from tests.pipeline.photos import COLLINS, GROUP, SAMPLES

PHOTOS = [path.read_bytes() for path in (COLLINS, GROUP, *sorted((SAMPLES / "fakes").glob("*.jpg")))]


@pytest.fixture(scope="module")
def both() -> tuple[list[float], list[float]]:
    """The scores of the same faces, in full and in eight bits."""
    scores = []
    for engine in ("onnx", "onnx-int8"):
        with Scanner(ScannerSettings(engine=engine)) as scanner:
            scores.append([face.score for scan in scanner.scan(PHOTOS) for face in scan.faces])
    return scores[0], scores[1]


def test_scores_in_eight_bits_stay_close(both: tuple[list[float], list[float]]) -> None:
    full, rounded = both
    assert len(full) == len(rounded) > 10  # the detectors are the same
    differences = np.abs(np.subtract(full, rounded))
    assert differences.mean() < 0.02
    assert differences.max() < 0.1


def test_eight_bits_are_used_only_where_they_are_asked_for(both: tuple[list[float], list[float]]) -> None:
    full, rounded = both
    assert not np.array_equal(full, rounded)
    assert ScannerSettings().engine == "onnx"


def test_the_evidence_still_has_nearly_the_logit_for_its_mean() -> None:
    engine = OnnxEngine(load_card(CLASSIFIER), file="onnx-int8")
    size = engine.card.input_size
    logits, evidence = engine.run(np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8))
    np.testing.assert_allclose(evidence.mean(axis=(1, 2, 3)), logits[:, 0], atol=0.02)
