"""The loop of a scan worker: one thread that scans, for messages first and, when none comes, for what SQL has ready.

Between two batches, and between two groups of a bulk batch, it makes one explanation, if somebody waits for one:
neither holds up the other for longer.

Messages are hints that there is work: which chunk is next, SQL says. Whether Redis is down, or lost one, the next look
finds the chunk.
"""

import logging
import threading
import time
from queue import Empty, SimpleQueue

from shield.errors import StorageUnavailable
from worker.explain import Explaining
from worker.scan import Scanning

log = logging.getLogger(__name__)


class ScanLoop:
    """Runs scans in one thread, so that no two ever overlap."""

    def __init__(self, scanning: Scanning, explaining: Explaining, poll_seconds: float) -> None:
        self._scanning = scanning
        self._explaining = explaining
        self._poll_seconds = poll_seconds
        self._asks: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._woken = False
        scanning.ahead.wake = explaining.wake = self._wake
        scanning.between = explaining.turn
        self._thread = threading.Thread(target=self._run, name="scan")
        self._storage_away = False

    def start(self) -> None:
        """Begin to scan."""
        self._thread.start()

    def ask(self) -> None:
        """Look for what is ready; returns when a batch of it is scanned, when there was none, or the loop has ended."""
        answered = threading.Event()
        self._asks.put(answered)
        while self._thread.is_alive() and not answered.wait(1.0):
            pass

    def stop(self) -> None:
        """Begin no further batch. Safe in a signal handler: a SimpleQueue may be entered twice by one thread."""
        self._scanning.stopping = True
        self._asks.put(None)

    def join(self) -> None:
        """Wait until the batch in hand is recorded or released."""
        self._thread.join()

    def _wake(self) -> None:
        """Look once more, however often this is called before the loop does."""
        if not self._woken:
            self._woken = True
            self._asks.put(None)

    def _run(self) -> None:
        pause = 0.0
        while not self._scanning.stopping:
            try:
                answered = self._asks.get(timeout=pause)
            except Empty:
                answered = None
            self._woken = False
            if not self._scanning.stopping:
                pause = 0.0 if self._turn() else self._poll_seconds
                self._rest()
            if answered is not None:
                answered.set()
        self._scanning.ahead.stop()

    def _rest(self) -> None:
        """While storage is away nobody is listened to: what is given back asks to be scanned, again and again."""
        until = time.monotonic() + self._poll_seconds
        while self._storage_away and not self._scanning.stopping and time.monotonic() < until:
            time.sleep(min(0.1, self._poll_seconds))

    def _turn(self) -> bool:
        """Make one explanation and scan one batch; whether there was either."""
        try:
            explained = self._explaining.turn()
            found = self._scanning.scan_ready() or explained
        except StorageUnavailable as error:
            if not self._storage_away:
                log.warning("waiting for storage: %s", error)
            self._storage_away = True
            return False
        except Exception:
            log.exception("a batch could not be finished; its leases run out and others take them")
            return False
        if self._storage_away:
            log.info("storage is back")
        self._storage_away = False
        return found
