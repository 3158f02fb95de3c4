"""The purge: takes what is expired or deleted, rows and bytes, in small transactions and turns of bounded length.

Beside it strays are looked for: what was stored for a request that was refused, or for a step that was never written.
"""

import secrets
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice

from shield import idempotency, retention
from shield.blobs import SHA256, SLICES, Blobs
from shield.db import Database, now
from shield.settings import Settings

TURN_SECONDS = 2.0  # of one turn: what it removes costs others time on the disk and in the database
PAGE = 500  # rows in one transaction
REMOVALS = 16  # blobs removed at a time: an S3 server is waited for, not worked for


class Purge:
    """The purge of one house. What a turn does not get done, the next ones do."""

    def __init__(self, database: Database, blobs: Blobs, config: Settings) -> None:
        self._database = database
        self._blobs = blobs
        self._config = config
        self._threads = ThreadPoolExecutor(REMOVALS, thread_name_prefix="purge")
        self._until = 0.0
        self._uploads_after: tuple[datetime, str] | None = None  # expired uploads before it are in use

    def turn(self) -> int:
        """Purge for a while; how many jobs are gone. Raises StorageUnavailable."""
        self._until = time.monotonic() + TURN_SECONDS
        with self._database.write() as session:
            retention.expire(session, self._config.retention_days, PAGE)
            idempotency.forget(session, self._config.idempotency_hours, PAGE)
            retention.forget_sign_ins(session)
        with self._database.write() as session:
            retention.forget_events(session, self._config.retention_days, PAGE)
        self._forget_cases()
        with self._database.read() as session:
            due = retention.due(session, PAGE)
        gone = 0
        for job_id in due:
            gone += self._purge_job(job_id)
            if self._over():
                return gone
        self._purge_uploads()
        return gone

    def _forget_cases(self) -> None:
        forgotten = PAGE
        while forgotten == PAGE and not self._over():
            with self._database.write() as session:
                forgotten = retention.forget_cases(session, PAGE)

    def _over(self) -> bool:
        return time.monotonic() > self._until

    def _purge_job(self, job_id: str) -> bool:
        """Whether it is gone. Bytes go before the rows that name them: a crash in between loses track of none."""
        while True:
            with self._database.read() as session:
                waste = retention.next_waste(session, job_id, PAGE)
            if waste is None:
                break
            self._remove(waste.blobs)
            list(self._threads.map(self._blobs.remove_upload, waste.uploads))
            with self._database.write() as session:
                retention.purge_items(session, job_id, waste.last)
                retention.purge_uploads(session, waste.uploads)
            if self._over():
                return False
        with self._database.read() as session:
            source = retention.source_waste(session, job_id)
        if source is not None:
            self._remove([source])
        with self._database.write() as session:
            retention.purge_job(session, job_id)
        return True

    def _remove(self, blobs: Collection[str]) -> None:
        """Remove blobs, except those that a request has put once more: its rows may not be there yet."""
        with self._database.read() as session:
            before = now(session) - retention.GRACE
        list(self._threads.map(lambda blob: self._blobs.remove_old(blob, before), blobs))

    def _purge_uploads(self) -> None:
        """Take expired uploads that no item refers to. Those in use are looked at once: they go with their items."""
        while not self._over():
            with self._database.read() as session:
                page = retention.expired_uploads(session, self._uploads_after, PAGE)
            list(self._threads.map(self._blobs.remove_upload, page.unused))
            with self._database.write() as session:
                retention.purge_uploads(session, page.unused)
            if page.after is None:
                return
            self._uploads_after = page.after


class Strays:
    """Removes blobs that no row names, a slice of the store a turn: nothing else would ever find them.

    So a store is one installation's alone: what rows of another database name would be strays here.

    It begins anywhere, for a house that is often started anew would otherwise see the same slices again and again. What
    is left of a slice when the store fails is looked at a round later.
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._threads = ThreadPoolExecutor(REMOVALS, thread_name_prefix="strays")
        self._slice = secrets.randbelow(SLICES)
        self._names: Iterator[str] = iter(())  # that are left of the slice before it

    def turn(self) -> int:
        """Look at what is left of a slice, or else at the next one; how much is gone. Raises StorageUnavailable."""
        until = time.monotonic() + TURN_SECONDS
        self._blobs.remove_stale()
        page = list(islice(self._names, PAGE))
        if not page:
            self._names, self._slice = self._blobs.names(self._slice), (self._slice + 1) % SLICES
            page = list(islice(self._names, PAGE))
        gone = 0
        while page:
            gone += self._remove(page)
            if time.monotonic() > until:
                break
            page = list(islice(self._names, PAGE))
        return gone

    def _remove(self, names: Collection[str]) -> int:
        """Remove those of them that no row names; but not what was put lately: its rows may not be there yet."""
        blobs = [name for name in names if SHA256.fullmatch(name)]
        uploads = [name for name in names if not SHA256.fullmatch(name)]
        with self._database.read() as session:
            before = now(session) - retention.GRACE
            strays, forgotten = retention.unnamed(session, blobs), retention.forgotten(session, uploads)
        list(self._threads.map(self._blobs.remove_upload, forgotten))
        return len(forgotten) + sum(self._threads.map(lambda blob: self._blobs.remove_old(blob, before), strays))
