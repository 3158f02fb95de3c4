"""The loop of a scan worker: one thread that scans, for messages first and, when none comes, for what SQL has ready.

Messages are hints. Whether Redis is down, or lost one, the next look into SQL finds the chunk.
"""

import logging
import threading
from queue import Empty, SimpleQueue

from shield.errors import StorageUnavailable
from worker.scan import Scanning

log = logging.getLogger(__name__)


class _Ask:
    """A message's wish to have a chunk scanned."""

    def __init__(self, chunk_id: str) -> None:
        self.chunk_id = chunk_id
        self.answered = threading.Event()


class ScanLoop:
    """Runs scans in one thread, so that no two ever overlap."""

    def __init__(self, scanning: Scanning, poll_seconds: float) -> None:
        self._scanning = scanning
        self._poll_seconds = poll_seconds
        self._asks: SimpleQueue[_Ask | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="scan")
        self._storage_away = False

    def start(self) -> None:
        """Begin to scan."""
        self._thread.start()

    def ask(self, chunk_id: str) -> None:
        """Have this chunk scanned; returns when it is, or when it is somebody else's, or when the loop has ended."""
        ask = _Ask(chunk_id)
        self._asks.put(ask)
        while self._thread.is_alive() and not ask.answered.wait(1.0):
            pass

    def stop(self) -> None:
        """Begin no further batch. Safe in a signal handler: a SimpleQueue may be entered twice by one thread."""
        self._scanning.stopping = True
        self._asks.put(None)

    def join(self) -> None:
        """Wait until the batch in hand is recorded or released."""
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._scanning.stopping:
            try:
                ask = self._asks.get(timeout=pause)
            except Empty:
                ask = None
            if not self._scanning.stopping:
                pause = 0.0 if self._turn(ask) else self._poll_seconds
            if ask is not None:
                ask.answered.set()

    def _turn(self, ask: _Ask | None) -> bool:
        """Scan one batch; whether there was one."""
        try:
            found = self._scanning.scan_ready() if ask is None else self._scanning.scan_chunk(ask.chunk_id)
        except StorageUnavailable as error:
            if not self._storage_away:
                log.warning("waiting for storage: %s", error)
            self._storage_away = True
            return False
        except Exception:
            log.exception("a batch could not be finished; its leases run out and the sweep returns them")
            return False
        if self._storage_away:
            log.info("storage is back")
        self._storage_away = False
        return found
