"""Moderators: passwords, roles, and sessions that end."""

import pytest
from sqlalchemy import select, text

from shield import audit, moderators
from shield.db import Database
from shield.errors import InvalidSubmission, NotFound, Unauthorised
from shield.models import AuditEntry, Moderator
from shield.states import Role

PASSWORD = "correct horse battery"


@pytest.fixture
def person(database: Database, account_id: str) -> Moderator:
    hashed = moderators.hash_password(PASSWORD)
    with database.write() as session:
        return moderators.create(session, account_id, "robin", hashed, Role.LEAD, audit.OPERATOR)


def test_a_person_signs_in_and_the_password_is_kept_nowhere(database: Database, person: Moderator) -> None:
    assert moderators.sign_in(database, "robin", PASSWORD).id == person.id
    with database.read() as session:
        assert PASSWORD not in str(session.execute(text("select * from moderator")).all())
        assert PASSWORD not in str(session.execute(text("select * from audit_entry")).all())
        assert person.password_hash.startswith("$argon2id$")
        last = session.scalars(select(AuditEntry).order_by(AuditEntry.number.desc()).limit(1)).one()
        assert (last.action, last.actor) == ("moderator.signed_in", person.id)


@pytest.mark.parametrize(
    ("name", "password"),
    [("robin", "wrong password"), ("nobody", PASSWORD), ("", ""), ("robin", ""), ("ro\0bin", PASSWORD)],
)
def test_a_wrong_name_and_a_wrong_password_read_the_same(
    database: Database, person: Moderator, name: str, password: str
) -> None:
    with pytest.raises(Unauthorised) as refused:
        moderators.sign_in(database, name, password)
    assert str(refused.value) == moderators.WRONG
    with database.read() as session:
        last = session.scalars(select(AuditEntry).order_by(AuditEntry.number.desc()).limit(1)).one()
        assert last.action == "moderator.sign_in_refused"
        assert last.target == (person.id if name == "robin" else "")


def test_sessions_end_with_the_password_and_with_the_person(database: Database, person: Moderator) -> None:
    with database.write() as session:
        assert moderators.current(session, person.id, 0).role == "lead"
        row = moderators.find(session, person.account_id, "robin")
        moderators.set_password(session, row, moderators.hash_password("another password"), audit.OPERATOR)
        with pytest.raises(Unauthorised):
            moderators.current(session, person.id, 0)
        assert moderators.current(session, person.id, 1).id == person.id
        moderators.set_disabled(session, row, True, audit.OPERATOR)
        with pytest.raises(Unauthorised):
            moderators.current(session, person.id, 2)
    with pytest.raises(Unauthorised):
        moderators.sign_in(database, "robin", "another password")
    with database.write() as session:
        moderators.set_disabled(session, moderators.find(session, person.account_id, "robin"), False, audit.OPERATOR)
    assert moderators.sign_in(database, "robin", "another password").sessions == 3


def test_names_are_taken_once_and_passwords_are_long(database: Database, person: Moderator) -> None:
    with database.write() as session, pytest.raises(InvalidSubmission, match="taken"):
        moderators.create(session, person.account_id, "robin", "", Role.MODERATOR, audit.OPERATOR)
    with database.write() as session, pytest.raises(InvalidSubmission, match="name"):
        moderators.create(session, person.account_id, "  ", "", Role.MODERATOR, audit.OPERATOR)
    for password in ("short", "x" * 1025):
        with pytest.raises(InvalidSubmission, match="12 to 1024"):
            moderators.hash_password(password)
    with database.write() as session, pytest.raises(NotFound):
        moderators.find(session, "acc_other", "robin")
