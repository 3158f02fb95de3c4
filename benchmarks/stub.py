"""A scan worker whose fetching and scanning cost next to nothing, so that what is measured is everything else.

`python -m benchmarks.stub [--fetch]`. An image's bytes are its URL, unless they are to be fetched for real; every tenth
has no face, every hundredth is broken.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence

from pipeline.results import Box, ErrorCode, Face, ImageFacts, ModelFacts, Scan, ScanError, Why
from pipeline.weights import WeightsCard
from shield import logs
from shield.dispatch import LeasedItem
from shield.settings import settings
from worker import app
from worker.sources import Fetched

CARD = WeightsCard(
    name="stub",
    version="1",
    files={"safetensors": {"file": "stub.safetensors", "sha256": "a" * 64}},
    input_size=32,
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    licence="none",
    source="benchmarks",
    thresholds={"fake": 0.8, "suspect": 0.5},
)
MODEL = ModelFacts(CARD.name, CARD.version, CARD.weights_sha256)
LANDMARKS = ((30.0, 40.0),) * 6


class StubSources:
    """Gives each item its own URL as bytes."""

    def fetch_all(self, items: Sequence[LeasedItem], at_once: int) -> Iterator[Fetched]:  # noqa: ARG002
        """Each item with its answer."""
        return ((item, (item.url or item.upload or item.blob or item.id).encode()) for item in items)


class StubScanner:
    """Tells a score from the hash of the bytes."""

    card = CARD

    def scan(self, images: Sequence[bytes]) -> Iterator[Scan]:
        """One Scan for each image, in order."""
        return map(_scan, images)

    def explain(self, image: bytes, boxes: Sequence[Box], width: int) -> list[Why]:  # noqa: ARG002
        """Nothing: nobody asks."""
        return []


def _scan(content: bytes) -> Scan:
    digest = hashlib.sha256(content)
    number = int.from_bytes(digest.digest()[:4], "big")
    if number % 100 == 0:
        return Scan(MODEL, error=ScanError(ErrorCode.TRUNCATED, "the file ends early"))
    facts = ImageFacts(640, 480, "JPEG", digest.hexdigest(), digest.hexdigest()[:16])
    face = Face(Box(10.0, 10.0, 50.0, 60.0), 0.99, LANDMARKS, number / 2**32)
    return Scan(MODEL, facts, () if number % 10 == 0 else (face,))


if __name__ == "__main__":
    found = settings()
    logs.set_up(found.log_format, found.log_level)
    sys.exit(app.run(StubScanner(), CARD, found, None if "--fetch" in sys.argv else StubSources()))
