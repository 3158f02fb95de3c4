"""The keeper: renews a process's leases, and ends the process when its scan has stopped advancing."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shield import dispatch
from shield.db import Database
from shield.dispatch import Lease
from shield.errors import StorageUnavailable

log = logging.getLogger(__name__)

IMAGE_SECONDS = 30.0  # longer than the pipeline lets one image take, whatever it holds
STUCK = 70  # exit code of a process whose scan stopped advancing


class Keeper:
    """Keeps the leases of one process alive, `seconds` at a time, from a thread of its own.

    What hangs inside a network cannot be interrupted, so a process whose scan gives no sign of life for its patience
    ends itself: whoever started it starts another, and the sweep returns its leases.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._changing = threading.Lock()
        self._held: dict[str, tuple[Lease, float]] = {}  # by token: until when, in time.monotonic
        self._advanced = 0.0
        self._patience: float | None = None  # seconds; None while nothing is scanned
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, leases: Sequence[Lease]) -> Iterator[None]:
        """Renew these leases, which were just taken, for the length of a `with` block."""
        until = time.monotonic() + self._seconds
        with self._changing:
            self._held |= {held.token: (held, until) for held in leases}
            self._start()
        try:
            yield
        finally:
            with self._changing:
                for held in leases:
                    self._held.pop(held.token)

    @contextmanager
    def watching(self, patience: float) -> Iterator[None]:
        """End the process when nothing advances for so many seconds within a `with` block. They nest."""
        self.advance()
        before, self._patience = self._patience, patience
        with self._changing:
            self._start()
        try:
            yield
        finally:
            self.advance()
            self._patience = before

    def advance(self) -> None:
        """Note a sign of life."""
        self._advanced = time.monotonic()

    def holds(self, held: Lease) -> bool:
        """Whether this lease still lives, as far as this process knows."""
        with self._changing:
            _, until = self._held[held.token]
        return time.monotonic() < until

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(self._seconds / 4)
            patience = self._patience
            if patience is not None and time.monotonic() - self._advanced > patience:
                log.critical("the scan has not advanced for %.0f s: this process ends itself", patience)
                os._exit(STUCK)
            self._renew()

    def _renew(self) -> None:
        with self._changing:
            leases = [held for held, _ in self._held.values()]
        if not leases:
            return
        asked = time.monotonic()
        try:
            with self._database.write(durable=False) as session:
                renewed = dispatch.renew(session, leases, self._seconds)
        except StorageUnavailable:
            return  # tried again at the next turn; the leases may outlive it
        except Exception:
            log.exception("the leases could not be renewed; tried again in %g s", self._seconds / 4)
            return
        with self._changing:
            for held in leases:
                if held.token in self._held:
                    self._held[held.token] = (held, asked + self._seconds if held.chunk_id in renewed else 0.0)
