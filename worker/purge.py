"""The purge: takes what is expired or deleted, rows and bytes, in small transactions and turns of bounded length."""

import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from shield import idempotency, retention
from shield.blobs import Blobs
from shield.db import Database, now
from shield.settings import Settings

TURN_SECONDS = 2.0  # of one turn: the other chores of the house wait meanwhile
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
        with self._database.read() as session:
            due = retention.due(session, PAGE)
        gone = 0
        for job_id in due:
            gone += self._purge_job(job_id)
            if self._over():
                return gone
        self._purge_uploads()
        return gone

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
