"""A scanner whose answers are told by the image's bytes, and a scan worker around it: `python -m tests.worker.stub`.

b"face ..."   one face, score 0.9        b"raise ..."  the scanner raises
b"none ..."   no face                    b"kill ..."   the process is killed
b"broken"     an image that is truncated b"slow ..."   a fifth of a second, then one face
"""

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from pipeline.results import Box, ErrorCode, Face, ImageFacts, ModelFacts, Scan, ScanError, Why
from pipeline.weights import WeightsCard
from shield import logs
from shield.settings import settings
from worker import app

CARD = WeightsCard(
    name="stub",
    version="1",
    files={"safetensors": {"file": "stub.safetensors", "sha256": "a" * 64}},
    input_size=32,
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    licence="none",
    source="tests",
    thresholds={"fake": 0.8, "suspect": 0.5},
)
MODEL = ModelFacts(CARD.name, CARD.version, CARD.weights_sha256)
FACE = Face(Box(10.0, 10.0, 50.0, 60.0), 0.99, ((1.0, 2.0),) * 6, 0.9)


class StubScanner:
    """Answers by bytes; `batches` holds what each call was given, and `before` is called first."""

    card = CARD

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.batches: list[list[bytes]] = []
        self.explained: list[tuple[bytes, int]] = []
        self._before = before

    def scan(self, images: Sequence[bytes]) -> Iterator[Scan]:
        self.batches.append(list(images))
        return self._scans(images)

    def _scans(self, images: Sequence[bytes]) -> Iterator[Scan]:
        self._before()
        for content in images:
            yield self._scan(content)

    def explain(self, image: bytes, boxes: Sequence[Box], width: int) -> list[Why] | ScanError:
        self.explained.append((image, width))
        self._before()
        word = image.split(b" ")[0].decode()
        if word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "raise":
            raise ValueError("a fault of the scanner")
        if word == "broken":
            return ScanError(ErrorCode.TRUNCATED, "the file ends early")
        steady = (("jpeg_90", 0.9), ("half_size", 0.7))
        return [Why(b.left, b.top, b.height, b"crop of " + image, b"map of " + image, 0.9, steady) for b in boxes]

    def _scan(self, content: bytes) -> Scan:
        word = content.split(b" ")[0].decode()
        if word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "raise":
            raise ValueError("a fault of the scanner")
        if word == "broken":
            return Scan(MODEL, error=ScanError(ErrorCode.TRUNCATED, "the file ends early"))
        if word == "slow":
            time.sleep(0.2)
        facts = ImageFacts(100, 80, "JPEG", hashlib.sha256(content).hexdigest(), "0123456789abcdef")
        return Scan(MODEL, facts, () if word == "none" else (FACE,), view=b"view of " + content)


if __name__ == "__main__":
    logs.set_up("text", "info")
    sys.exit(app.run(StubScanner(), CARD, settings()))
