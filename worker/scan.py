"""Scanning: lease chunks until the batch is full, fetch, scan what is new, judge, record.

What was fetched ahead is scanned in batches of its own. Here a measured Scan becomes plain facts for the policy. No
transaction is open while an image is fetched or scanned. Equal bytes of one account are scanned once for each model;
the others copy what was measured, and are judged anew.
"""

import hashlib
import io
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pipeline.results import Face, Scan, ScanError
from pipeline.weights import WeightsCard
from shield import cache, dispatch
from shield.blobs import Blobs
from shield.cache import Digest, Measured
from shield.db import Database
from shield.dispatch import Lease
from shield.errors import StorageUnavailable
from shield.outcomes import Failed, Outcome, Scanned
from shield.policy import FaceFacts, Origin, Policy, judge, sampled
from shield.settings import MIB, Settings
from worker.ahead import Ahead, Parcel, give_back, in_parts
from worker.keeper import IMAGE_SECONDS, Keeper
from worker.policies import Policies
from worker.sources import Fetched, Fetcher, Sources

log = logging.getLogger(__name__)

FETCHES = 16  # images of a batch that are read at a time
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
        self._policies = Policies(database, policy)
        self._config = config
        self._sources = sources or Sources(database, blobs, config)
        self._keeper = Keeper(database, config.lease_seconds)
        self.ahead = Ahead(database, self._sources, self._keeper, config.lease_seconds)
        self.stopping = False

    def scan_ready(self) -> bool:
        """Scan the next ready chunk with what fits beside it, and what was fetched ahead; False when there is neither.

        Raises StorageUnavailable when nothing could be leased, or fetched from the blob store.
        """
        self.ahead.begin()
        leases = self._lease()
        if leases:
            self._scan(leases)
        if self.stopping:
            return True
        parcels = self.ahead.take(self._config.batch_images)
        if parcels:
            self._scan_parcels(parcels)
        return bool(leases or parcels)

    def _lease(self) -> list[Lease]:
        """Chunks that are not fetched ahead, until the batch is full or nothing is ready."""
        leases: list[Lease] = []
        images = 0
        while images < self._config.batch_images and not (leases and leases[0].alone):
            try:
                with self._database.write() as session:
                    held = dispatch.lease_next(session, self._config.lease_seconds, company=bool(leases))
            except StorageUnavailable:
                if not leases:
                    raise
                break
            if held is None:
                break
            leases.append(held)
            images += len(held.items)
        return leases

    def _scan(self, leases: Sequence[Lease]) -> None:
        items = [item for held in leases for item in held.items]
        lease_of = {item.id: held for held in leases for item in held.items}
        place = {item.id: number for number, item in enumerate(items)}
        with self._keeper.holding(leases), self._watching(items):
            try:
                for part in in_parts(self._advancing(self._sources.fetch_all(items, FETCHES))):
                    if self.stopping:
                        break
                    self._finish(sorted(part, key=lambda fetched: place[fetched[0].id]), lease_of)
                if self.stopping:
                    give_back(self._database, leases)
            except StorageUnavailable:  # the blob store is away: no image's fault, and no worker's
                give_back(self._database, leases)
                raise

    def _scan_parcels(self, parcels: Sequence[Parcel]) -> None:
        try:
            with self._database.write() as session:
                living = dispatch.begin(session, [parcel.held for parcel in parcels])
            held = [parcel for parcel in parcels if parcel.held.chunk_id in living]
            fetched = [answer for parcel in held for answer in parcel.part]
            lease_of = {item.id: parcel.held for parcel in held for item, _ in parcel.part}
            with self._watching(fetched):
                self._finish(fetched, lease_of)
        finally:
            for parcel in parcels:
                parcel.scanned.set()

    def _watching(self, images: Sequence[object]) -> AbstractContextManager[None]:
        return self._keeper.watching(IMAGE_SECONDS * (len(images) + 1))

    def _advancing(self, fetched: Iterable[Fetched]) -> Iterator[Fetched]:
        for answer in fetched:
            if self.stopping:
                return
            self._keeper.advance()
            yield answer

    def _finish(self, fetched: Sequence[Fetched], lease_of: Mapping[str, Lease]) -> None:
        """Scan what was fetched, and record it lease by lease."""
        found: dict[str, list[Found | Failed]] = {}
        leases: dict[str, Lease] = {}
        for (item, _), answer in zip(fetched, self._scan_fetched(fetched), strict=True):
            held = leases.setdefault(lease_of[item.id].token, lease_of[item.id])
            found.setdefault(held.token, []).append(answer)
        for token, held in leases.items():
            self._record(held, found[token])

    def _scan_fetched(self, fetched: Sequence[Fetched]) -> list[Found | Failed]:
        """One answer for each item, in order. Equal images of an account are scanned once, or not at all."""
        there = [
            (item, content, (item.account_id, hashlib.sha256(content).hexdigest()))
            for item, content in fetched
            if isinstance(content, bytes)
        ]
        known = self._known({digest for _, _, digest in there})
        new: dict[Digest, tuple[str, bytes]] = {}
        for item, content, digest in there:
            if digest not in known:
                new.setdefault(digest, (item.id, content))
        scans = dict(zip(new, self._scan_images(list(new.values())), strict=True))
        found = {item.id: _answer(item.id, digest, known, scans, new) for item, _, digest in there}
        return [answer if isinstance(answer, Failed) else found[item.id] for item, answer in fetched]

    def _known(self, digests: Collection[Digest]) -> dict[Digest, Measured]:
        """What earlier scans measured on these images; nothing while the database is away: then they are scanned."""
        try:
            with self._database.read() as session:
                return cache.find(session, self._scanner.card.weights_sha256, digests)
        except StorageUnavailable:
            return {}

    def _scan_images(self, images: Sequence[tuple[str, bytes]]) -> list[Scan | Failed]:
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
            self._keeper.advance()
        return [answer for image in images for answer in self._scan_images([image])]

    def _record(self, held: Lease, found: Sequence[Found | Failed]) -> None:
        """Write what was found; while storage is away, try again for as long as the lease lives."""
        pause = 0.1  # seconds
        origins = {item.id: Origin.of(item.url) for item in held.items}
        while True:
            try:
                policy = self._policies.of(held.account_id)
                outcomes = [
                    answer if isinstance(answer, Failed) else self._judge(answer, policy, origins[answer.item_id])
                    for answer in found
                ]
                with self._database.write() as session:
                    moved = dispatch.record(session, held, outcomes)
            except (StorageUnavailable, OSError) as error:
                if self.stopping or not self._keeper.holds(held):
                    log.warning("chunk %s is left to the sweep, for it cannot be recorded: %s", held.chunk_id, error)
                    return
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
                self._keeper.advance()
            else:
                if moved < len(found):
                    log.info("chunk %s was lost to another worker before it was recorded", held.chunk_id)
                return

    def _judge(self, found: Found, policy: Policy, origin: Origin) -> Outcome:
        """What becomes of an item whose image was scanned, now or before."""
        measured = found.scan if isinstance(found.scan, Measured) else self._measured(found.scan)
        if isinstance(measured, ScanError):
            return Failed(found.item_id, measured.code, measured.detail)
        return Scanned(
            item_id=found.item_id,
            judgement=judge(measured.faces, policy, origin),
            faces=measured.faces,
            width=measured.width,
            height=measured.height,
            format=measured.format,
            sha256=measured.sha256,
            view_blob=measured.view_blob,
            weights_sha256=measured.weights_sha256,
            policy_version=policy.version,
            from_cache=found.from_cache,
            image_hash=measured.image_hash,
            review_sample=sampled(found.item_id, policy.review_share),
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
            image_hash=scan.image.looks,
        )


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
