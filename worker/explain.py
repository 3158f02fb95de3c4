"""Explaining: why faces score as they do, for whoever asked. One item at a time, between two batches of a scan.

Nothing is fetched again from elsewhere: whoever put an image on the web need not learn when it is looked at, and may
have put another one there. Where the original was not stored here, the view is explained instead.
"""

import hashlib
import io
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pipeline.results import Box, ScanError, Why
from pipeline.weights import WeightsCard
from shield import explanations
from shield.blobs import Blobs, TooLarge
from shield.db import Database
from shield.errors import BlobMissing, StorageUnavailable, UploadMissing
from shield.explanations import Explained, Held
from shield.settings import MIB, Settings
from shield.states import Picture
from worker.keeper import IMAGE_SECONDS, Keeper

log = logging.getLogger(__name__)

HOLD_SECONDS = 2 * IMAGE_SECONDS  # a process that hangs ends itself before another may take what it holds
LARGEST_PICTURE = MIB  # bytes of a crop or a heat map; they are small by the pipeline's own doing


class Explainer(Protocol):
    """What explains: pipeline.scan.Scanner, or a double in a test."""

    @property
    def card(self) -> WeightsCard:
        """The identity of the classifier."""
        ...

    def explain(self, image: bytes, boxes: Sequence[Box], width: int) -> list[Why] | ScanError:
        """One answer for each box, in pixels of the image `width` wide that this is, or is a copy of."""
        ...


class Explaining:
    """Makes explanations that were asked for. For one thread; `look` may be called from any other.

    `wake` is called when there is something to look at, and one is made at each `turn`.
    """

    def __init__(self, database: Database, blobs: Blobs, explainer: Explainer, config: Settings) -> None:
        self._database = database
        self._blobs = blobs
        self._explainer = explainer
        self._config = config
        self._keeper = Keeper(database, config.lease_seconds)
        self._next_look = 0.0
        self.wake: Callable[[], None] = lambda: None

    def look(self) -> None:
        """Somebody asked: look in SQL at the next turn. It is looked at every `lease_poll_seconds` anyway."""
        self._next_look = 0.0
        self.wake()

    def turn(self) -> bool:
        """Make one explanation; False when nobody waits for any. Raises StorageUnavailable."""
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + self._config.lease_poll_seconds
        with self._database.read() as session:
            if not explanations.wanted(session):
                return False
        with self._database.write() as session:
            held = explanations.take(session, HOLD_SECONDS)
        if held is None:
            return False
        self._next_look = 0.0
        try:
            with self._keeper.watching(IMAGE_SECONDS):
                self._make(held)
        except StorageUnavailable:
            with self._database.write() as session:
                explanations.give_back(session, held)
            raise
        except Exception:
            log.exception("item %s could not be explained; it is tried again in %g s", held.item_id, HOLD_SECONDS)
        return True

    def _make(self, held: Held) -> None:
        found = next(self._pictures(held), None)
        if found is None:
            self._fail(held, "image_gone")
            return
        picture, content = found
        boxes = [Box(face.left, face.top, face.width, face.height) for face in held.faces]
        try:
            whys = self._explainer.explain(content, boxes, held.image_width)
        except Exception:  # it would come at every try
            log.exception("the scanner failed to explain item %s", held.item_id)
            self._fail(held, "explain_failed")
            return
        if isinstance(whys, ScanError):
            self._fail(held, whys.code)
            return
        faces = [self._stored(face.ordinal, why) for face, why in zip(held.faces, whys, strict=True)]
        with self._database.write() as session:
            explanations.record(session, held, picture, self._explainer.card.weights_sha256, faces)

    def _pictures(self, held: Held) -> Iterator[tuple[Picture, bytes]]:
        """What is still there to look at, the best first."""
        try:
            original = self._original(held)
            if original is not None and hashlib.sha256(original).hexdigest() == held.image_sha256:
                yield Picture.ORIGINAL, original
        except (BlobMissing, UploadMissing, TooLarge):
            pass
        if held.view_blob is not None:
            try:
                yield Picture.VIEW, self._blobs.get(held.view_blob)
            except BlobMissing:
                log.warning("the view of item %s is gone", held.item_id)

    def _original(self, held: Held) -> bytes | None:
        if held.blob is not None:
            return self._blobs.get(held.blob)
        return self._blobs.get_upload(held.upload, self._config.max_image_bytes) if held.upload else None

    def _stored(self, ordinal: int, why: Why) -> Explained:
        """Its pictures are stored first: a row never names a blob that is not there."""
        crop, heatmap = (self._blobs.put(io.BytesIO(one), LARGEST_PICTURE) for one in (why.crop, why.heatmap))
        return Explained(ordinal, why.left, why.top, why.side, why.score, why.stability, crop, heatmap)

    def _fail(self, held: Held, reason: str) -> None:
        with self._database.write() as session:
            explanations.fail(session, held, reason)
