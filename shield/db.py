"""The database door: engine, sessions, clock.

SQLite (embedded) runs in WAL with synchronous=FULL, NORMAL where only a lease is written, and a writing transaction
begins with BEGIN IMMEDIATE, so that two writers wait for each other instead of failing half-way. PostgreSQL runs in
READ COMMITTED, and every wait has an end.
No network call belongs inside a transaction.
"""

import logging
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeDecorator

from shield.errors import StorageUnavailable

log = logging.getLogger(__name__)

BUSY_SECONDS = 10.0  # how long a writer waits for another: for the whole of SQLite, for a row of PostgreSQL
# Between two looks of a writer whether SQLite's other ones are done: the first is doubled up to the last.
FIRST_LOOK_SECONDS = 0.0005
LAST_LOOK_SECONDS = 0.008
POSTGRES = {
    "connect_timeout": 5,
    "tcp_user_timeout": 30_000,  # ms until a server that acknowledges nothing counts as gone
    # A statement that takes a minute is ended, and so is a transaction whose process has not asked for anything in a
    # minute: it is frozen, and holds locks.
    "options": f"-c lock_timeout={BUSY_SECONDS:g}s -c statement_timeout=60s -c idle_in_transaction_session_timeout=60s",
}
CLOCK = select(func.clock_timestamp())
LOCK_TIMEOUT = text("select set_config('lock_timeout', :wait, true)")  # of this transaction alone
AWAY = {  # what PostgreSQL says, beside operational errors, that is no fault of the statement: by SQLSTATE
    "25006",  # read-only: a standby
    "25P03",  # the transaction was idle for too long
    "42P01",  # no such table: not migrated yet. SQLite counts this as operational by itself
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database; SQLite keeps it without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database. Raises ValueError for a naive datetime."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a zone: use shield.db.now")
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def open_engine(url: str) -> Engine:
    """An engine for this URL, set up as the design needs it. `postgres://` and `postgresql://` mean psycopg."""
    found = make_url(url)
    # A thread holds one connection at a time, so the threads bound the pool, and nobody waits for a place in it.
    if found.get_backend_name() != "sqlite":
        if found.drivername in ("postgres", "postgresql"):
            found = found.set(drivername="postgresql+psycopg")
        return create_engine(
            found, pool_size=0, pool_pre_ping=True, isolation_level="READ COMMITTED", connect_args=POSTGRES
        )
    engine = create_engine(found, pool_size=0, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_SECONDS * 1000:.0f}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if "wait" in options:  # SQLite waits where a writing transaction begins, and nowhere after
            _begin_writing(connection, options["wait"], options["durable"])
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _begin_writing(connection: Connection, wait: float | None, durable: bool) -> None:
    """BEGIN IMMEDIATE as soon as the other writers let it, looked for in ever longer steps.

    SQLite's own steps are made for transactions of a tenth of a second: two workers whose transactions take a few
    milliseconds would sleep through most of the time in which they could write.
    """
    driver: Any = connection.connection.driver_connection
    until, pause = time.monotonic() + (BUSY_SECONDS if wait is None else wait), FIRST_LOOK_SECONDS
    driver.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while time.monotonic() < until:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(pause)
                pause = min(2 * pause, LAST_LOOK_SECONDS)
            else:
                return
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # raises what hinders it, as SQLAlchemy says it
    finally:
        driver.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")


class Database:
    """Short transactions over one engine."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._writing = {
            durable: self.engine.execution_options(wait=None, durable=durable) for durable in (True, False)
        }
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._unreached = False

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads."""
        with self._guard(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self, wait: float | None = None, *, durable: bool = True) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back on an exception.

        Another writer is waited for BUSY_SECONDS, or as many as `wait` says. What is not `durable` outlives every
        process, but not a power cut, and SQLite need not wait for the disk: for leases, whose holders die with the
        machine. Raises StorageUnavailable when the database cannot be reached, is locked, read-only or full.
        """
        engine = self._writing[durable] if wait is None else self._writing[durable].execution_options(wait=wait)
        with self._guard(), Session(engine, expire_on_commit=False) as session, session.begin():
            if wait is not None and not self.is_sqlite:
                session.execute(LOCK_TIMEOUT, {"wait": f"{int(wait * 1000)}ms"})
            yield session

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            # A deadlock and a lock that is waited for too long are operational: the same work done again may succeed.
            state = getattr(error.orig, "sqlstate", None)
            if isinstance(error, OperationalError) or error.connection_invalidated or state in AWAY:
                raise StorageUnavailable(f"the database cannot take this now: {self._reason(error)}") from error
            raise
        if self._unreached:
            log.info("the database is back")
            self._unreached = False

    def _reason(self, error: DBAPIError) -> str:
        """What is wrong, for anybody to read: who connects where as whom is for the log, which is told it once."""
        if self.is_sqlite:
            return str(error.orig)
        diagnosis = getattr(error.orig, "diag", None)
        if diagnosis is not None and diagnosis.message_primary:
            return str(diagnosis.message_primary)
        if not self._unreached:
            log.warning("the database cannot be reached: %s", " ".join(str(error.orig).split()))
            self._unreached = True
        return "it cannot be reached"

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()


def now(session: Session) -> datetime:
    """The clock that leases are measured by: the database's on PostgreSQL, this process's on SQLite."""
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = session.execute(CLOCK).scalar_one()
    return moment.astimezone(UTC)


def new_id(prefix: str) -> str:
    """A sortable id: prefix, milliseconds since 1970 in hex, 64 random bits. Later ids sort after earlier ones."""
    return f"{prefix}_{int(time.time() * 1000):011x}{secrets.token_hex(8)}"


def first_id(prefix: str, moment: datetime) -> str:
    """The id before all that are made at this moment or later, and after all that were made before."""
    return f"{prefix}_{max(int(moment.timestamp() * 1000), 0):011x}"
