"""Foresight: while a bulk batch is scanned, the bytes of what is probably next are read.

Nothing is leased for it, so a guess that was wrong costs a read, and nobody is blamed for a worker's death.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from shield import dispatch
from shield.db import Database
from shield.dispatch import LeasedItem
from shield.errors import StorageUnavailable
from shield.queue import BULK
from worker.ahead import in_parts
from worker.sources import Fetched, Fetcher


class Foresight:
    """A Fetcher that may have read already what it is asked for: at most a part (see worker.ahead). For one thread."""

    def __init__(self, database: Database, sources: Fetcher, images: int) -> None:
        self._database = database
        self._sources = sources
        self._images = images
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="foresight")
        self._reading: Future[dict[str, bytes]] | None = None

    def begin(self, at_once: int) -> None:
        """Begin to read what a worker would lease next, unless that was done since anything was asked for."""
        if self._reading is None:
            self._reading = self._thread.submit(self._read, at_once)

    def fetch_all(self, items: Sequence[LeasedItem], at_once: int) -> Iterator[Fetched]:
        """Each item with its answer, first those that were read already. Raises StorageUnavailable."""
        read = self._reading.result() if self._reading else {}
        self._reading = None
        yield from ((item, read[item.id]) for item in items if item.id in read)
        yield from self._sources.fetch_all([item for item in items if item.id not in read], at_once)

    def _read(self, at_once: int) -> dict[str, bytes]:
        try:
            with self._database.read() as session:
                items = dispatch.foreseen(session, BULK, self._images)
            part = next(in_parts(self._sources.fetch_all(items, at_once)), [])
        except StorageUnavailable:
            return {}
        return {item.id: content for item, content in part if isinstance(content, bytes)}
