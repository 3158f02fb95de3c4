"""The house chores: what waits for the database alone in a plain loop that outlives it; the others beside it.

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

from shield.blobs import SLICES, open_blobs
from shield.db import Database
from shield.queue import CeleryQueue
from shield.settings import Settings
from worker.app import broker
from worker.cancel import cancel
from worker.deliver import Deliverer, sweep_deliveries
from worker.expand import LISTED, STORED, Expander
from worker.purge import Purge, Strays
from worker.relay import relay
from worker.sweep import sweep, sweep_claims

log = logging.getLogger(__name__)

HOUSE_LOCK = 0x5348_4945  # the key of the advisory lock: "SHIE" in ASCII, shared by all house processes
SLICE_SECONDS = 24 * 3600.0 / SLICES  # so strays are looked for everywhere once a day
STOP_SECONDS = 5.0  # that the turns in hand may take to end


class Leadership(Protocol):
    """One process among many holds it."""

    def held(self) -> bool:
        """Whether this process leads; takes the lead when it is free."""
        ...

    def give_up(self) -> None:
        """Let another process lead, from now on."""
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

    def give_up(self) -> None:
        """See Leadership."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._held = False


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
            self.give_up()
            return False

    def give_up(self) -> None:
        """See Leadership."""
        if self._connection is not None:
            self._connection.invalidate()  # closes it for good: back in the pool it would keep the lock
        self._connection = None


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


class Beside:
    """Does one chore in a thread of its own while this process leads: what it waits for holds up no other.

    `stopping` is set when it shall end, and may be watched by the chore.
    """

    def __init__(self, chore: Chore, pause: float, stopping: threading.Event | None = None) -> None:
        self._chore = chore
        self._pause = pause  # seconds after a turn of which nothing came
        self._leads = threading.Event()
        self._stopping = stopping or threading.Event()
        self._thread = threading.Thread(target=self._run, name=chore.name, daemon=True)

    def start(self) -> None:
        """Begin; nothing is done before this process leads."""
        self._thread.start()

    def lead(self, leads: bool) -> None:
        """Whether this process leads now."""
        if leads:
            self._leads.set()
        else:
            self._leads.clear()

    def tell_to_stop(self) -> None:
        """Begin no further turn."""
        self._stopping.set()

    def join(self, until: float) -> None:
        """Wait for the turn in hand, but not beyond this moment: one that hangs is left, and rolls back."""
        self._thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not (self._leads.is_set() and self._chore.turn()):
                self._stopping.wait(self._pause)


def run(config: Settings) -> None:
    """Do the chores until SIGTERM or SIGINT. Raises SettingsError without SHIELD_REDIS_URL."""
    # A signal handler may append in the middle of anything; an exception there may be swallowed.
    leaving: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: leaving.append(number))
    database, queue, blobs = Database(config.database), CeleryQueue(broker(config)), open_blobs(config)
    leadership: Leadership = (
        FileLeadership(config.home / "house.lock") if database.is_sqlite else PostgresLeadership(database)
    )
    expander, lister = (Expander(database, blobs, config, kinds) for kinds in (STORED, LISTED))
    strays, relay_seconds = Strays(database, blobs), config.relay_seconds
    deliverer = Deliverer(database, config)
    # The sweep waits for the database alone: not for a Redis or a blob store that hangs, nor for a million lines.
    chores = (
        Chore("sweep", config.sweep_seconds, lambda: sweep(database)),
        Chore("claims", config.sweep_seconds, lambda: sweep_claims(database)),
        Chore("cancel", config.sweep_seconds, lambda: cancel(database)),
        Chore("deliveries", config.sweep_seconds, lambda: sweep_deliveries(database, config)),
    )
    beside = (
        Beside(Chore("relay", relay_seconds, lambda: relay(database, queue, config.queue_window)), relay_seconds / 2),
        Beside(Chore("purge", config.purge_seconds, Purge(database, blobs, config).turn), config.purge_seconds / 2),
        Beside(Chore("strays", SLICE_SECONDS, strays.turn), config.purge_seconds / 2),
        Beside(Chore("expand", 0.0, expander.turn), relay_seconds, expander.stopping),
        Beside(Chore("list", 0.0, lister.turn), relay_seconds, lister.stopping),
        Beside(Chore("deliver", 0.0, deliverer.turn), config.webhook_poll_seconds, deliverer.stopping),
    )
    for one in beside:
        one.start()
    log.info("ready, process %d", os.getpid())
    try:
        while not leaving:
            leads = leadership.held()
            for one in beside:
                one.lead(leads)
            if leads:
                for chore in chores:
                    chore.turn()
            time.sleep(config.sweep_seconds / 2)
    finally:
        leadership.give_up()  # the turns in hand may take their time; leases that run out meanwhile are another's
        for one in beside:
            one.tell_to_stop()
        until = time.monotonic() + STOP_SECONDS
        for one in beside:
            one.join(until)
