"""Scanning: lease chunks until the batch is full, fetch, scan what is new, judge, record.

Here a measured Scan becomes plain facts for the policy. No transaction is open while an image is fetched or scanned.
Equal bytes of one account are scanned once for each model; the others copy what was measured, and are judged anew.
"""

import hashlib
import io
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.results import Face, Scan, ScanError
from pipeline.weights import WeightsCard
from shield import cache, dispatch
from shield.blobs import Blobs
from shield.cache import Digest, Measured
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

    @property
    def card(self) -> WeightsCard:
        """The identity of the classifier."""
        ...

    def scan(self, images: Sequence[bytes]) -> list[Scan]:
        """One Scan for each image, in order."""
        ...


class Fetcher(Protocol):
    """What fetches: worker.sources.Sources, or a double where networks and disks are not what is measured."""

    def fetch_all(self, items: Sequence[LeasedItem]) -> Iterator[bytes | Failed]:
        """One answer for each item, in order. Raises StorageUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of an item's image: a scan of it, or what an earlier scan of the same bytes measured."""

    item_id: str
    scan: Scan | Measured
    from_cache: bool


class Scanning:
    """Scans ready chunks, a batch at a time. For one thread; `stopping` may be set from any other.

    Once `stopping` is set no batch is begun: what is leased and not yet scanned is given back without blame.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        scanner: Scanner,
        policy: Policy,
        config: Settings,
        sources: Fetcher | None = None,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._scanner = scanner
        self._policy = policy
        self._config = config
        self._sources = sources or Sources(database, blobs, config)
        self.stopping = False

    def scan_chunk(self, chunk_id: str) -> bool:
        """Scan this chunk and what fits beside it; the next ready one where somebody else took it, or it is done.

        False when nothing is ready. Raises StorageUnavailable when nothing could be leased, or fetched from the blob
        store.
        """
        seconds = self._config.lease_seconds
        with self._database.write() as session:
            first = dispatch.lease(session, chunk_id, seconds) or dispatch.lease_next(session, seconds, company=False)
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
            try:
                self._scan(leases, keeper)
            except StorageUnavailable:  # the blob store is away: no image's fault, and no worker's
                self._release(leases)
                raise
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
    ) -> list[Found | Failed]:
        """One answer for each item, in order. Equal images of an account are scanned once, or not at all."""
        there = [
            (item, content, (item.account_id, hashlib.sha256(content).hexdigest()))
            for item, content in zip(items, fetched, strict=True)
            if isinstance(content, bytes)
        ]
        known = self._known({digest for _, _, digest in there})
        new: dict[Digest, tuple[str, bytes]] = {}
        for item, content, digest in there:
            if digest not in known:
                new.setdefault(digest, (item.id, content))
        scans = dict(zip(new, self._scan_images(list(new.values()), keeper), strict=True))
        found = {item.id: _answer(item.id, digest, known, scans, new) for item, _, digest in there}
        return [
            answer if isinstance(answer, Failed) else found[item.id]
            for item, answer in zip(items, fetched, strict=True)
        ]

    def _known(self, digests: Collection[Digest]) -> dict[Digest, Measured]:
        """What earlier scans measured on these images; nothing while the database is away: then they are scanned."""
        try:
            with self._database.read() as session:
                return cache.find(session, self._scanner.card.weights_sha256, digests)
        except StorageUnavailable:
            return {}

    def _scan_images(self, images: Sequence[tuple[str, bytes]], keeper: Keeper) -> list[Scan | Failed]:
        """Scan a batch; when that fails as a whole, one image at a time, so that only the guilty one fails."""
        if not images:
            return []
        try:
            return [*self._scanner.scan([content for _, content in images])]
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

    def _record(self, held: Lease, found: Sequence[Found | Failed], keeper: Keeper) -> None:
        """Write what was found; while storage is away, try again for as long as the lease lives."""
        pause = 0.1  # seconds
        while True:
            try:
                outcomes = [answer if isinstance(answer, Failed) else self._judge(answer) for answer in found]
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

    def _judge(self, found: Found) -> Outcome:
        """What becomes of an item whose image was scanned, now or before."""
        measured = found.scan if isinstance(found.scan, Measured) else self._measured(found.scan)
        if isinstance(measured, ScanError):
            return Failed(found.item_id, measured.code, measured.detail)
        return Scanned(
            item_id=found.item_id,
            judgement=judge(measured.faces, self._policy),
            faces=measured.faces,
            width=measured.width,
            height=measured.height,
            format=measured.format,
            sha256=measured.sha256,
            view_blob=measured.view_blob,
            weights_sha256=measured.weights_sha256,
            policy_version=self._policy.version,
            from_cache=found.from_cache,
        )

    def _measured(self, scan: Scan) -> Measured | ScanError:
        """A scan as plain facts. Its view is stored first: a row never names a blob that is not there."""
        if scan.error is not None:
            return scan.error
        if scan.image is None:
            raise ValueError("a Scan holds either an image or an error")
        return Measured(
            faces=tuple(_facts(face) for face in scan.faces),
            width=scan.image.width,
            height=scan.image.height,
            format=scan.image.format,
            sha256=scan.image.sha256,
            view_blob=self._blobs.put(io.BytesIO(scan.view), LARGEST_VIEW) if scan.view else None,
            weights_sha256=scan.model.weights_sha256,
        )

    def _release(self, leases: Sequence[Lease]) -> None:
        for held in leases:
            try:
                with self._database.write() as session:
                    dispatch.release(session, held)
            except StorageUnavailable as error:
                log.warning("chunk %s is left to the sweep, for it cannot be given back: %s", held.chunk_id, error)


def _answer(
    item_id: str,
    digest: Digest,
    known: Mapping[Digest, Measured],
    scans: Mapping[Digest, Scan | Failed],
    new: Mapping[Digest, tuple[str, bytes]],
) -> Found | Failed:
    """What is known of an item by its image's digest; `new` says for which item that image was scanned."""
    if digest in known:
        return Found(item_id, known[digest], from_cache=True)
    scan = scans[digest]
    if isinstance(scan, Failed):
        return Failed(item_id, scan.code, scan.detail)
    return Found(item_id, scan, from_cache=new[digest][0] != item_id)


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
