"""The house chores, in a plain loop that outlives Redis and the database; and expanding, beside it.

One process leads and the others wait. Two at once would do no harm, only work twice.
"""

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from shield.blobs import open_blobs
from shield.db import Database
from shield.queue import CeleryQueue
from shield.settings import Settings
from worker.app import broker
from worker.cancel import cancel
from worker.expand import Expander
from worker.purge import Purge
from worker.relay import relay
from worker.sweep import sweep

log = logging.getLogger(__name__)

HOUSE_LOCK = 0x5348_4945  # the key of the advisory lock: "SHIE" in ASCII, shared by all house processes
STOP_SECONDS = 5.0  # that a step of an expansion may take to end


class Leadership(Protocol):
    """One process among many holds it."""

    def held(self) -> bool:
        """Whether this process leads; takes the lead when it is free."""
        ...


class FileLeadership:
    """A lock on HOME/house.lock, for one machine. The kernel frees it with the process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._held = False

    def held(self) -> bool:
        """Take the lock if it is free."""
        if not self._held:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._held = True
            except BlockingIOError:
                return False
        return self._held


class PostgresLeadership:
    """An advisory lock on PostgreSQL, for many machines. The server frees it with the connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def held(self) -> bool:
        """Ask for the lock over one lasting connection. Asking again while it is held adds nothing that matters."""
        try:
            if self._connection is None:
                self._connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            asked = self._connection.execute(text("select pg_try_advisory_lock(:key)"), {"key": HOUSE_LOCK})
            return bool(asked.scalar_one())
        except DBAPIError:
            if self._connection is not None:
                self._connection.invalidate()
            self._connection = None
            return False


@dataclass
class Chore:
    """Something done every so many seconds; trouble is logged when it begins and when it ends, not at every turn."""

    name: str
    seconds: float
    work: Callable[[], int]
    _due: float = field(default=0.0, init=False)
    _troubled: bool = field(default=False, init=False)

    def turn(self) -> int:
        """Do the work if it is due; what came of it, 0 when nothing did."""
        if time.monotonic() < self._due:
            return 0
        done = 0
        try:
            done = self.work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the chore is tried again: nothing else would do it
            if not self._troubled:
                log.warning("%s waits: %s: %s", self.name, type(error).__name__, error)
            self._troubled = True
        else:
            if self._troubled:
                log.info("%s works again", self.name)
            self._troubled = False
        self._due = time.monotonic() + self.seconds
        return done


class ExpandLoop:
    """Expands in a thread of its own while this process leads: the sweep waits for no million lines."""

    def __init__(self, expander: Expander, seconds: float) -> None:
        self._chore = Chore("expand", 0.0, expander.turn)
        self._seconds = seconds
        self._leads = threading.Event()
        self._stopping = expander.stopping
        self._thread = threading.Thread(target=self._run, name="expand", daemon=True)

    def start(self) -> None:
        """Begin; nothing is expanded before this process leads."""
        self._thread.start()

    def lead(self, leads: bool) -> None:
        """Whether this process leads now."""
        if leads:
            self._leads.set()
        else:
            self._leads.clear()

    def stop(self) -> None:
        """End after the step in hand, which is cut short; one that hangs all the same is left to roll back."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not (self._leads.is_set() and self._chore.turn()):
                self._stopping.wait(self._seconds)


def run(config: Settings) -> None:
    """Do the chores until SIGTERM or SIGINT. Raises SettingsError without SHIELD_REDIS_URL."""
    leaving: list[
        int
    ] = []  # a signal handler may append in the middle of anything; an exception there may be swallowed
    signal.signal(signal.SIGTERM, lambda number, _: leaving.append(number))
    database, queue, blobs = Database(config.database), CeleryQueue(broker(config)), open_blobs(config)
    leadership: Leadership = (
        FileLeadership(config.home / "house.lock") if database.is_sqlite else PostgresLeadership(database)
    )
    chores = (
        Chore("relay", config.relay_seconds, lambda: relay(database, queue, config.queue_window)),
        Chore("sweep", config.sweep_seconds, lambda: sweep(database)),
        Chore("cancel", config.sweep_seconds, lambda: cancel(database)),
        Chore("purge", config.purge_seconds, Purge(database, blobs, config).turn),
    )
    tick = min(chore.seconds for chore in chores) / 2
    expanding = ExpandLoop(Expander(database, blobs, config), config.relay_seconds)
    expanding.start()
    log.info("ready, process %d", os.getpid())
    try:
        while not leaving:
            leads = leadership.held()
            expanding.lead(leads)
            if leads:
                for chore in chores:
                    chore.turn()
            time.sleep(tick)
    finally:
        expanding.stop()
