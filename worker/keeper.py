"""The keeper: renews a batch's leases while its scan advances, and ends a process whose scan has stopped advancing."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from shield import dispatch
from shield.db import Database
from shield.dispatch import Lease
from shield.errors import StorageUnavailable

log = logging.getLogger(__name__)

IMAGE_SECONDS = 30.0  # longer than the pipeline lets one image take, whatever it holds
STUCK = 70  # exit code of a process whose scan stopped advancing


class Keeper:
    """Holds leases for the length of a `with` block, from a thread of its own.

    What hangs inside a network cannot be interrupted, so a process without a sign of life for `patience` seconds ends
    itself: whoever started it starts another, and the sweep returns its leases.
    """

    def __init__(self, database: Database, leases: Sequence[Lease], seconds: float, patience: float) -> None:
        self._database = database
        self._leases = leases
        self._seconds = seconds
        self._patience = patience
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_ended, name="keeper", daemon=True)
        self._advanced = time.monotonic()
        self._until = dict.fromkeys((held.token for held in leases), self._advanced + seconds)

    def advance(self) -> None:
        """Note a sign of life."""
        self._advanced = time.monotonic()

    def holds(self, held: Lease) -> bool:
        """Whether this lease still lives, as far as this process knows."""
        return time.monotonic() < self._until[held.token]

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._seconds / 4):
            asked = time.monotonic()
            if asked - self._advanced > self._patience:
                log.critical("the scan has not advanced for %.0f s: this process ends itself", self._patience)
                os._exit(STUCK)
            try:
                with self._database.write() as session:
                    renewed = dispatch.renew(session, self._leases, self._seconds)
            except StorageUnavailable:
                continue  # tried again at the next turn; the leases may outlive it
            for held in self._leases:
                self._until[held.token] = asked + self._seconds if held.chunk_id in renewed else 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
