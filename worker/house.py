"""The house chores: relay and sweep, in a plain loop that outlives Redis and the database.

One process leads and the others wait. Two at once would do no harm, only work twice.
"""

import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from shield.db import Database
from shield.queue import CeleryQueue
from shield.settings import Settings
from worker.app import broker
from worker.relay import relay
from worker.sweep import sweep

log = logging.getLogger(__name__)

HOUSE_LOCK = 0x5348_4945  # the key of the advisory lock: "SHIE" in ASCII, shared by all house processes


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

    def turn(self) -> None:
        """Do the work if it is due."""
        if time.monotonic() < self._due:
            return
        try:
            self.work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the chore is tried again: nothing else would do it
            if not self._troubled:
                log.warning("%s waits: %s: %s", self.name, type(error).__name__, error)
            self._troubled = True
        else:
            if self._troubled:
                log.info("%s works again", self.name)
            self._troubled = False
        self._due = time.monotonic() + self.seconds


def run(config: Settings) -> None:
    """Do the chores until SIGTERM or SIGINT. Raises SettingsError without SHIELD_REDIS_URL."""
    signal.signal(signal.SIGTERM, _leave)
    database, queue = Database(config.database), CeleryQueue(broker(config))
    leadership: Leadership = (
        FileLeadership(config.home / "house.lock") if database.is_sqlite else PostgresLeadership(database)
    )
    chores = (
        Chore("relay", config.relay_seconds, lambda: relay(database, queue, config.queue_window)),
        Chore("sweep", config.sweep_seconds, lambda: sweep(database)),
    )
    tick = min(chore.seconds for chore in chores) / 2
    log.info("ready, process %d", os.getpid())
    while True:
        if leadership.held():
            for chore in chores:
                chore.turn()
        time.sleep(tick)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """Leave at once: an open transaction rolls back, and whoever leads next does what was not done."""
    sys.exit(0)
