"""Recording: what was measured is judged, and written with the lease that it was measured under.

Here a measured Scan becomes plain facts for the policy.
"""

import io
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline.results import Face
from shield import dispatch
from shield.blobs import Blobs
from shield.cache import Measured
from shield.db import Database
from shield.dispatch import Lease
from shield.errors import StorageUnavailable
from shield.outcomes import Failed, Outcome, Scanned
from shield.policy import FaceFacts, Origin, Policy, judge, sampled
from shield.settings import MIB
from worker.keeper import Keeper
from worker.measuring import Found
from worker.policies import Policies

log = logging.getLogger(__name__)

LARGEST_VIEW = 32 * MIB  # bytes; views are small by the scanner's own doing
MOST_PAUSE = 0.5  # seconds until the next try: others may be waiting for what could be written by now
THREADS = 8  # views that are stored at a time: each waits for a disk or a network


class Settled(NamedTuple):
    """What was measured on an item's image, its view stored."""

    item_id: str
    measured: Measured
    from_cache: bool


class Recorder:
    """Records what was measured. `record` may be called from several threads at a time."""

    def __init__(self, database: Database, blobs: Blobs, policies: Policies, keeper: Keeper) -> None:
        self._database = database
        self._blobs = blobs
        self._policies = policies
        self._keeper = keeper
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="view")

    def record(self, held: Lease, found: Sequence[Found | Failed], stopping: Callable[[], bool]) -> None:
        """Write what was found; while storage is away, try again for as long as the lease lives."""
        pause = 0.1  # seconds
        origins = {item.id: Origin.of(item.url) for item in held.items}
        while True:
            try:
                policy = self._policies.of(held.account_id)
                outcomes = [
                    answer if isinstance(answer, Failed) else _judge(answer, policy, origins[answer.item_id])
                    for answer in self._threads.map(self._settled, found)
                ]
                with self._database.write() as session:
                    moved = dispatch.record(session, held, outcomes)
            except (StorageUnavailable, OSError) as error:
                if stopping() or not self._keeper.holds(held):
                    log.warning("chunk %s is left to the sweep, for it cannot be recorded: %s", held.chunk_id, error)
                    return
                time.sleep(pause)
                pause = min(2 * pause, MOST_PAUSE)
                self._keeper.advance()
            else:
                if moved < len(found):
                    log.info("chunk %s was lost to another worker before it was recorded", held.chunk_id)
                return

    def _settled(self, found: Found | Failed) -> Settled | Failed:
        """A scan as plain facts. Its view is stored first: a row never names a blob that is not there."""
        if isinstance(found, Failed):
            return found
        scan = found.scan
        if isinstance(scan, Measured):
            return Settled(found.item_id, scan, found.from_cache)
        if scan.error is not None:
            return Failed(found.item_id, scan.error.code, scan.error.detail)
        if scan.image is None:
            raise ValueError("a Scan holds either an image or an error")
        measured = Measured(
            faces=tuple(_facts(face) for face in scan.faces),
            width=scan.image.width,
            height=scan.image.height,
            format=scan.image.format,
            sha256=scan.image.sha256,
            view_blob=self._blobs.put(io.BytesIO(scan.view), LARGEST_VIEW) if scan.view else None,
            weights_sha256=scan.model.weights_sha256,
            image_hash=scan.image.looks,
        )
        return Settled(found.item_id, measured, found.from_cache)


def _judge(settled: Settled, policy: Policy, origin: Origin) -> Outcome:
    """What becomes of an item whose image was scanned, now or before."""
    measured = settled.measured
    return Scanned(
        item_id=settled.item_id,
        judgement=judge(measured.faces, policy, origin),
        faces=measured.faces,
        width=measured.width,
        height=measured.height,
        format=measured.format,
        sha256=measured.sha256,
        view_blob=measured.view_blob,
        weights_sha256=measured.weights_sha256,
        policy_version=policy.version,
        from_cache=settled.from_cache,
        image_hash=measured.image_hash,
        review_sample=sampled(settled.item_id, policy.review_share),
    )


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
