"""The database door: engine, sessions, clock.

SQLite (embedded) runs in WAL with synchronous=FULL, and a writing transaction begins with BEGIN IMMEDIATE, so that two
writers wait for each other instead of failing half-way. PostgreSQL runs as it is. No network call belongs inside a
transaction.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, Engine, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeDecorator

from shield.errors import StorageUnavailable

BUSY_SECONDS = 10  # how long a SQLite writer waits for another


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
    """An engine for this URL, with the pragmas and the way to begin that the design needs where it is SQLite."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_SECONDS * 1000}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin_with", "BEGIN"))

    return engine


class Database:
    """Short transactions over one engine."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._writing = self.engine.execution_options(begin_with="BEGIN IMMEDIATE")
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads."""
        with self._guard(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back on an exception.

        Raises StorageUnavailable when the database cannot be reached, is locked, read-only or full.
        """
        with self._guard(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise StorageUnavailable(f"the database cannot take this now: {error.orig}") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise StorageUnavailable(f"the database went away: {error.orig}") from error
            raise

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()


def now(session: Session) -> datetime:
    """The clock that leases are measured by: the database's on PostgreSQL, this process's on SQLite."""
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)


def new_id(prefix: str) -> str:
    """A sortable id: prefix, milliseconds since 1970 in hex, 64 random bits. Later ids sort after earlier ones."""
    return f"{prefix}_{int(time.time() * 1000):011x}{secrets.token_hex(8)}"
