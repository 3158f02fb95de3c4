"""Scanning: lease chunks until the batch is full, fetch, scan, judge, record.

Here a measured Scan becomes plain facts for the policy. No transaction is open while an image is fetched or scanned.
"""

import io
import logging
import time
from collections.abc import Sequence
from typing import Protocol

from pipeline.results import Face, Scan
from shield import dispatch
from shield.blobs import Blobs
from shield.db import Database
from shield.dispatch import Failed, Lease, LeasedItem, Outcome, Scanned
from shield.errors import StorageUnavailable
from shield.policy import FaceFacts, Policy, judge
from shield.settings import MIB, Settings
from worker.keeper import IMAGE_SECONDS, Keeper
from worker.sources import Sources

log = logging.getLogger(__name__)

LARGEST_VIEW = 32 * MIB  # bytes; views are small by the scanner's own doing


class Scanner(Protocol):
    """What scans: pipeline.scan.Scanner, or a double in a test."""

    def scan(self, images: Sequence[bytes]) -> list[Scan]:
        """One Scan for each image, in order."""
        ...


class Scanning:
    """Scans ready chunks, a batch at a time. For one thread; `stopping` may be set from any other.

    Once `stopping` is set no batch is begun: what is leased and not yet scanned is given back without blame.
    """

    def __init__(self, database: Database, blobs: Blobs, scanner: Scanner, policy: Policy, config: Settings) -> None:
        self._database = database
        self._blobs = blobs
        self._scanner = scanner
        self._policy = policy
        self._config = config
        self._sources = Sources(blobs, config)
        self.stopping = False

    def scan_chunk(self, chunk_id: str) -> bool:
        """Scan this chunk and what fits beside it; False when it is not ready: somebody else took it, or it is done.

        Raises StorageUnavailable when nothing could be leased.
        """
        with self._database.write() as session:
            first = dispatch.lease(session, chunk_id, self._config.lease_seconds)
        return self._scan_with_company(first)

    def scan_ready(self) -> bool:
        """Scan the next ready chunk and what fits beside it; False when none is ready. Raises StorageUnavailable."""
        with self._database.write() as session:
            first = dispatch.lease_next(session, self._config.lease_seconds, company=False)
        return self._scan_with_company(first)

    def _scan_with_company(self, first: Lease | None) -> bool:
        if first is None:
            return False
        leases = [first] if first.alone else self._fill(first)
        images = sum(len(held.items) for held in leases)
        with Keeper(self._database, leases, self._config.lease_seconds, IMAGE_SECONDS * (images + 1)) as keeper:
            self._scan(leases, keeper)
        return True

    def _fill(self, first: Lease) -> list[Lease]:
        """The lease, and further ones until the batch is full or nothing is ready."""
        leases, images = [first], len(first.items)
        while images < self._config.batch_images:
            try:
                with self._database.write() as session:
                    more = dispatch.lease_next(session, self._config.lease_seconds, company=True)
            except StorageUnavailable:
                break
            if more is None:
                break
            leases.append(more)
            images += len(more.items)
        return leases

    def _scan(self, leases: Sequence[Lease], keeper: Keeper) -> None:
        items = [item for held in leases for item in held.items]
        fetched: list[bytes | Failed] = []
        for content in self._sources.fetch_all(items):
            fetched.append(content)
            keeper.advance()
        if self.stopping:
            self._release(leases)
            return
        found = dict(zip((item.id for item in items), self._scan_fetched(items, fetched, keeper), strict=True))
        for held in leases:
            self._record(held, [found[item.id] for item in held.items], keeper)

    def _scan_fetched(
        self, items: Sequence[LeasedItem], fetched: Sequence[bytes | Failed], keeper: Keeper
    ) -> list[tuple[str, Scan] | Failed]:
        """One answer for each item: its id and Scan, or why there is none."""
        there = [(item.id, content) for item, content in zip(items, fetched, strict=True) if isinstance(content, bytes)]
        scans = iter(self._scan_images(there, keeper))
        return [next(scans) if isinstance(content, bytes) else content for content in fetched]

    def _scan_images(self, images: Sequence[tuple[str, bytes]], keeper: Keeper) -> list[tuple[str, Scan] | Failed]:
        """Scan a batch; when that fails as a whole, one image at a time, so that only the guilty one fails."""
        if not images:
            return []
        try:
            scans = self._scanner.scan([content for _, content in images])
            return [(item_id, scan) for (item_id, _), scan in zip(images, scans, strict=True)]
        except Exception as error:  # whatever it is, it must not harm the neighbours
            if len(images) == 1:
                item_id = images[0][0]
                log.exception("the scanner failed on item %s", item_id)
                detail = f"the scanner failed on this image with {type(error).__name__}; the worker's log says where"
                return [Failed(item_id, "scan_failed", detail)]
            log.warning("the scanner failed on a batch of %d images with %r: one by one now", len(images), error)
        finally:
            keeper.advance()
        return [answer for image in images for answer in self._scan_images([image], keeper)]

    def _record(self, held: Lease, found: Sequence[tuple[str, Scan] | Failed], keeper: Keeper) -> None:
        """Write what was found; while storage is away, try again for as long as the lease lives."""
        pause = 0.1  # seconds
        while True:
            try:
                outcomes = [answer if isinstance(answer, Failed) else self._judge(*answer) for answer in found]
                with self._database.write() as session:
                    moved = dispatch.record(session, held, outcomes)
            except (StorageUnavailable, OSError) as error:
                if self.stopping or not keeper.holds(held):
                    log.warning("chunk %s is left to the sweep, for it cannot be recorded: %s", held.chunk_id, error)
                    return
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
                keeper.advance()
            else:
                if moved < len(found):
                    log.info("chunk %s was lost to another worker before it was recorded", held.chunk_id)
                return

    def _judge(self, item_id: str, scan: Scan) -> Outcome:
        """What becomes of a scanned item. Its view is stored first: a row never names a blob that is not there."""
        if scan.error is not None:
            return Failed(item_id, scan.error.code, scan.error.detail)
        if scan.image is None:
            raise ValueError("a Scan holds either an image or an error")
        faces = tuple(_facts(face) for face in scan.faces)
        return Scanned(
            item_id=item_id,
            judgement=judge(faces, self._policy),
            faces=faces,
            width=scan.image.width,
            height=scan.image.height,
            format=scan.image.format,
            sha256=scan.image.sha256,
            view_blob=self._blobs.put(io.BytesIO(scan.view), LARGEST_VIEW) if scan.view else None,
            weights_sha256=scan.model.weights_sha256,
            policy_version=self._policy.version,
        )

    def _release(self, leases: Sequence[Lease]) -> None:
        for held in leases:
            try:
                with self._database.write() as session:
                    dispatch.release(session, held)
            except StorageUnavailable as error:
                log.warning("chunk %s is left to the sweep, for it cannot be given back: %s", held.chunk_id, error)


def _facts(face: Face) -> FaceFacts:
    """A measured face as the policy and the database take it."""
    return FaceFacts(
        left=face.box.left,
        top=face.box.top,
        width=face.box.width,
        height=face.box.height,
        detection_score=face.detection_score,
        score=face.score,
        landmarks=face.landmarks,
    )
