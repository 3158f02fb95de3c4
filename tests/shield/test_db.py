"""The database door: what a database that is away, busy, locked, read-only or not migrated comes out as."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import make_url, select, text, update

from shield import db
from shield.db import Database, now, open_engine
from shield.errors import StorageUnavailable
from shield.models import Account

on_postgresql = pytest.mark.parametrize("dialect", ["postgresql"])


@pytest.fixture
def hurried(url: str, account_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The same database as `database`, for which a test need not wait long."""
    hurry = "-c lock_timeout=100ms -c statement_timeout=200ms -c idle_in_transaction_session_timeout=100ms"
    monkeypatch.setitem(db.POSTGRES, "options", hurry)
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.1)
    database = Database(url)
    yield database
    database.close()


def rename(database: Database, name: str) -> None:
    with database.write() as session:
        session.execute(update(Account).values(name=name))


def test_a_write_that_another_holds_up_for_too_long_is_unavailable(database: Database, hurried: Database) -> None:
    with database.write() as session:
        session.execute(update(Account).values(name="first"))
        with pytest.raises(StorageUnavailable, match="lock"):
            rename(hurried, "second")
    rename(hurried, "second")
    with database.read() as session:
        assert session.scalars(select(Account.name)).all() == ["second"]


def test_who_can_do_without_waits_a_moment_for_another_writer_and_the_next_one_as_long_as_ever(
    database: Database, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "BUSY_SECONDS", 3600)
    monkeypatch.setitem(db.POSTGRES, "options", "-c lock_timeout=3600s")
    patient = Database(database.engine.url.render_as_string(hide_password=False))
    with database.write() as session:
        session.execute(update(Account).values(name="first"))
        with pytest.raises(StorageUnavailable, match="lock"), patient.write(wait=0.05) as other:
            other.execute(update(Account).values(name="second"))
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(rename, patient, "third")
            time.sleep(0.3)
            assert not waiting.done()
            session.commit()
            waiting.result(30)
    patient.close()
    with database.read() as session:
        assert session.scalars(select(Account.name)).all() == ["third"]


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_what_is_recorded_waits_for_the_disk_and_a_lease_does_not(database: Database) -> None:
    full, normal = 2, 1
    for durable, kept in ((True, full), (False, normal), (True, full)):
        with database.write(durable=durable) as session:
            assert session.execute(text("PRAGMA synchronous")).scalar() == kept
            assert session.execute(text("PRAGMA busy_timeout")).scalar() == db.BUSY_SECONDS * 1000


def test_more_threads_than_any_pool_read_at_once(database: Database) -> None:
    together = threading.Barrier(40, timeout=30)

    def read() -> None:
        with database.read() as session:
            session.execute(text("select 1"))
            together.wait()

    with ThreadPoolExecutor(40) as threads:
        for future in [threads.submit(read) for _ in range(40)]:
            future.result()


def test_a_database_that_is_not_migrated_is_unavailable(empty_url: str) -> None:
    database = Database(empty_url)
    with pytest.raises(StorageUnavailable, match="account"), database.read() as session:
        session.scalars(select(Account)).all()
    database.close()


@on_postgresql
def test_the_clock_is_the_databases_and_moves_within_a_transaction(database: Database) -> None:
    with database.write() as session:
        first = now(session)
        time.sleep(0.01)
        assert first < now(session)
        assert session.scalar(text("select clock_timestamp()")) - first < timedelta(minutes=1)
        assert abs(datetime.now(UTC) - first) < timedelta(minutes=1)


@on_postgresql
@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_the_scheme_means_psycopg(url: str, scheme: str) -> None:
    engine = open_engine(make_url(url).set(drivername=scheme).render_as_string(hide_password=False))
    with engine.connect() as connection:
        assert connection.dialect.driver == "psycopg"
        names = ("transaction_isolation", "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        found = [connection.execute(text(f"show {name}")).scalar_one() for name in names]
        assert found == ["read committed", "10s", "1min", "1min"]
    engine.dispose()


@on_postgresql
def test_a_statement_that_takes_too_long_is_ended(hurried: Database) -> None:
    with pytest.raises(StorageUnavailable, match="statement timeout"), hurried.write() as session:
        session.execute(text("select pg_sleep(60)"))


@on_postgresql
def test_a_transaction_that_stands_still_loses_its_locks(database: Database, hurried: Database) -> None:
    def stand_still() -> None:
        with hurried.write() as session:
            session.execute(update(Account).values(name="first"))
            rename(database, "second")  # waits until the server has ended this one
            session.execute(update(Account).values(name="third"))

    with pytest.raises(StorageUnavailable):
        stand_still()
    with database.read() as session:
        assert session.scalars(select(Account.name)).all() == ["second"]


@on_postgresql
def test_of_two_in_a_deadlock_one_goes_on_and_the_other_is_told_to_try_again(
    database: Database, account_id: str
) -> None:
    locks = ("select pg_advisory_xact_lock(1)", "select pg_advisory_xact_lock(2)")
    both_hold_one = threading.Barrier(2, timeout=30)

    def lock(first: str, second: str) -> str:
        try:
            with database.write() as session:
                session.execute(text(first))
                both_hold_one.wait()
                session.execute(text(second))
        except StorageUnavailable as error:
            return str(error)
        return "went on"

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lock, locks, reversed(locks)))
    assert sorted(outcomes) == ["the database cannot take this now: deadlock detected", "went on"]


@on_postgresql
def test_a_connection_that_dies_costs_its_transaction_alone(database: Database, account_id: str) -> None:
    def end_me_in_between() -> None:
        with database.write() as session:
            session.execute(update(Account).values(name="lost"))
            mine = session.scalar(text("select pg_backend_pid()"))
            with database.read() as other:
                other.execute(text("select pg_terminate_backend(:pid)"), {"pid": mine})
            session.execute(text("select 1"))

    with pytest.raises(StorageUnavailable):
        end_me_in_between()
    with database.read() as session:
        assert session.scalars(select(Account.name)).all() == ["acme"]


@on_postgresql
def test_connections_that_died_while_nobody_looked_are_replaced(database: Database, account_id: str) -> None:
    with database.read() as session:
        others = (
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> {}"
        )
        with database.read() as idle:
            idle.execute(text("select 1"))
        session.execute(text(others.format("pg_backend_pid()")))
        with database.read() as again:
            assert again.scalars(select(Account.id)).all() == [account_id]


@on_postgresql
def test_a_standby_is_unavailable_for_writing(url: str, database: Database, account_id: str) -> None:
    name = make_url(url).database
    with database.write() as session:
        session.execute(text(f"alter database {name} set default_transaction_read_only = on"))
    standby = Database(url)
    with pytest.raises(StorageUnavailable, match="read-only"):
        rename(standby, "second")
    with standby.read() as session:
        assert session.scalars(select(Account.id)).all() == [account_id]
    standby.close()


def test_a_server_that_is_away_is_said_so_without_naming_it_and_the_log_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = Database("postgresql://somebody:secret@127.0.0.1:1/shield")
    for _ in range(2):
        with pytest.raises(StorageUnavailable) as caught, database.read() as session:
            session.execute(text("select 1"))
        assert str(caught.value) == "the database cannot take this now: it cannot be reached"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "127.0.0.1" in caplog.text
    assert "secret" not in caplog.text
    database.close()
