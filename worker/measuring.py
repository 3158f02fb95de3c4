"""Measuring: one answer for each fetched image, from the scanner as it goes, or from what was measured before.

Equal bytes of one account are scanned once for each model; the others copy what was measured, and are judged anew.
"""

import hashlib
import logging
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.results import Scan
from pipeline.weights import WeightsCard
from shield import cache
from shield.cache import Digest, Measured
from shield.db import Database
from shield.errors import StorageUnavailable
from shield.outcomes import Failed
from worker.sources import Fetched

log = logging.getLogger(__name__)


class Scanner(Protocol):
    """What scans: pipeline.scan.Scanner, or a double in a test."""

    @property
    def card(self) -> WeightsCard:
        """The identity of the classifier."""
        ...

    def scan(self, images: Sequence[bytes]) -> Iterator[Scan]:
        """One Scan for each image, in order, as they are made. Between two of them other images may be scanned."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of an item's image: a scan of it, or what an earlier scan of the same bytes measured."""

    item_id: str
    scan: Scan | Measured
    from_cache: bool


class Measuring:
    """Measures fetched images. For one thread; between two answers, other images may be measured."""

    def __init__(self, database: Database, scanner: Scanner) -> None:
        self._database = database
        self._scanner = scanner

    def answers(self, fetched: Sequence[Fetched]) -> Generator[Found | Failed, None, None]:
        """One answer for each item, in order. Equal images of an account are scanned once, or not at all."""
        digests: dict[str, Digest] = {}  # by item
        images: dict[Digest, tuple[str, bytes]] = {}  # of which item first, and its bytes
        for item, content in fetched:
            if isinstance(content, bytes):
                digests[item.id] = item.account_id, hashlib.sha256(content).hexdigest()
                images.setdefault(digests[item.id], (item.id, content))
        known: Mapping[Digest, Measured] = self._known(images)
        new = [image for digest, image in images.items() if digest not in known]
        scans, made = self._scans(new), dict[Digest, Scan | Failed]()
        for item, content in fetched:
            if isinstance(content, Failed):
                yield content
                continue
            digest = digests[item.id]
            if digest in known:
                yield Found(item.id, known[digest], from_cache=True)
                continue
            if digest not in made:
                made[digest] = next(scans)
            scan = made[digest]
            if isinstance(scan, Failed):
                yield Failed(item.id, scan.code, scan.detail)
            else:
                yield Found(item.id, scan, from_cache=images[digest][0] != item.id)

    def _known(self, digests: Collection[Digest]) -> dict[Digest, Measured]:
        """What earlier scans measured on these images; nothing while the database is away: then they are scanned."""
        try:
            with self._database.read() as session:
                return cache.find(session, self._scanner.card.weights_sha256, digests)
        except StorageUnavailable:
            return {}

    def _scans(self, images: Sequence[tuple[str, bytes]]) -> Iterator[Scan | Failed]:
        """Scan images together; where that fails, the rest one at a time, so that only the guilty one fails."""
        answered = 0
        if not images:
            return
        try:
            for _, scan in zip(images, self._scanner.scan([content for _, content in images]), strict=True):
                answered += 1
                yield scan
        except Exception as error:  # whatever it is, it must not harm the neighbours
            if len(images) == 1:
                item_id = images[0][0]
                log.exception("the scanner failed on item %s", item_id)
                detail = f"the scanner failed on this image with {type(error).__name__}; the worker's log says where"
                yield Failed(item_id, "scan_failed", detail)
                return
            log.warning("the scanner failed on a batch of %d images with %r: one by one now", len(images), error)
        for image in images[answered:]:
            yield from self._scans([image])
