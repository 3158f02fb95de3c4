"""The audit log: only ever added to, and a change is found."""

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shield import audit
from shield.audit import Action
from shield.db import Database
from shield.errors import AuditBroken

REMOVE = {
    True: ("drop trigger audit_entry_no_update", "drop trigger audit_entry_no_delete"),
    False: ("drop trigger audit_entry_append_only on audit_entry",),
}


def write(database: Database, count: int) -> None:
    for number in range(count):
        with database.write() as session:
            audit.note(session, Action.KEY_CREATED, "operator", "acc_1", f"key_{number}", name="ü")


def unlock(database: Database) -> None:
    """As whoever owns the database could."""
    with database.write() as session:
        for statement in REMOVE[database.is_sqlite]:
            session.execute(text(statement))


def test_each_entry_follows_from_the_one_before_it(database: Database) -> None:
    with database.read() as session:
        assert audit.verify(session) == (0, audit.START)
    write(database, 3)
    with database.read() as session:
        first = audit.verify(session)
        assert first.entries == 3
    write(database, 2)
    with database.read() as session:
        entries, head = audit.verify(session, contains=first.head)
        assert entries == 5
        assert head != first.head
        assert [entry.number for entry in audit.newest(session, "acc_1", 2)] == [5, 4]
        assert audit.newest(session, "acc_2", 2) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("update audit_entry set actor = 'nobody' where number = 2", "entry 2 was changed"),
        ("update audit_entry set detail = '{}' where number = 4", "entry 4 was changed"),
        ("delete from audit_entry where number = 3", "entry 3 is missing"),
        ("delete from audit_entry where number = 1", "entry 1 is missing"),
        ("update audit_entry set number = 9 where number = 2", "entry 2 is missing"),
        ("delete from audit_entry where number >= 4", "no entry has the hash"),
    ],
)
def test_what_was_tampered_with_is_found(database: Database, change: str, found: str) -> None:
    write(database, 4)
    with database.read() as session:
        head = audit.verify(session).head
    with pytest.raises(DBAPIError, match="append-only"), database.write() as session:
        session.execute(text(change))
    unlock(database)
    with database.write() as session:
        session.execute(text(change))
    with database.read() as session, pytest.raises(AuditBroken, match=found):
        audit.verify(session, contains=head)


def test_many_at_once_make_one_chain(database: Database) -> None:
    threads = [threading.Thread(target=write, args=(database, 5)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert audit.verify(session).entries == 40


def test_what_is_undone_leaves_no_entry(database: Database) -> None:
    with database.write() as session:
        audit.note(session, Action.KEY_CREATED, "operator", "acc_1")
        session.rollback()
    with database.read() as session:
        assert audit.verify(session).entries == 0
