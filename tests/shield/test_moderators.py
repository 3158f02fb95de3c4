"""Moderators: passwords, roles, and sessions that end."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import select, text, update

from shield import audit, moderators, sessions
from shield.db import Database
from shield.errors import InvalidSubmission, NotFound, RateLimited, Unauthorised
from shield.models import AuditEntry, Moderator
from shield.states import Role

PASSWORD = "correct horse battery"
NETWORK = "192.0.2.0/24"


def sign_in(database: Database, name: str, password: str) -> sessions.Visitor:
    """Who sits at the browser that signed in so."""
    token = moderators.sign_in(database, name, password, NETWORK)
    with database.read() as session:
        return sessions.current(session, token)


@pytest.fixture
def person(database: Database, account_id: str) -> Moderator:
    hashed = moderators.hash_password(PASSWORD)
    with database.write() as session:
        return moderators.create(session, account_id, "robin", hashed, Role.LEAD, audit.OPERATOR)


def test_a_person_signs_in_and_the_password_is_kept_nowhere(database: Database, person: Moderator) -> None:
    found = sign_in(database, "robin", PASSWORD)
    assert (found.actor, found.name, found.role) == (person.id, "robin", Role.LEAD)
    with database.read() as session:
        assert PASSWORD not in str(session.execute(text("select * from moderator")).all())
        assert PASSWORD not in str(session.execute(text("select * from audit_entry")).all())
        assert person.password_hash.startswith("$argon2id$")
        last = session.scalars(select(AuditEntry).order_by(AuditEntry.number.desc()).limit(1)).one()
        assert (last.action, last.actor) == ("moderator.signed_in", person.id)
        assert NETWORK in last.detail


@pytest.mark.parametrize(
    ("name", "password"),
    [("robin", "wrong password"), ("nobody", PASSWORD), ("", ""), ("robin", ""), ("ro\0bin", PASSWORD)],
)
def test_a_wrong_name_and_a_wrong_password_read_the_same(
    database: Database, person: Moderator, name: str, password: str
) -> None:
    with pytest.raises(Unauthorised) as refused:
        sign_in(database, name, password)
    assert str(refused.value) == moderators.WRONG
    with database.read() as session:
        last = session.scalars(select(AuditEntry).order_by(AuditEntry.number.desc()).limit(1)).one()
        assert last.action == "moderator.sign_in_refused"
        assert last.target == (person.id if name == "robin" else "")
        assert NETWORK in last.detail


def test_sessions_end_with_the_password_and_with_the_person(database: Database, person: Moderator) -> None:
    first = moderators.sign_in(database, "robin", PASSWORD, NETWORK)
    with database.write() as session:
        assert sessions.current(session, first).role == "lead"
        row = moderators.find(session, person.account_id, "robin")
        moderators.set_password(session, row, moderators.hash_password("another password"), audit.OPERATOR)
        with pytest.raises(Unauthorised):
            sessions.current(session, first)
    second = moderators.sign_in(database, "robin", "another password", NETWORK)
    with database.write() as session:
        assert sessions.current(session, second).actor == person.id
        moderators.set_disabled(session, moderators.find(session, person.account_id, "robin"), True, audit.OPERATOR)
        with pytest.raises(Unauthorised):
            sessions.current(session, second)
    with pytest.raises(Unauthorised):
        sign_in(database, "robin", "another password")
    with database.write() as session:
        [refused] = audit.newest(session, person.account_id, 1)
        assert (refused.action, refused.target) == ("moderator.sign_in_refused", person.id)
        moderators.set_disabled(session, moderators.find(session, person.account_id, "robin"), False, audit.OPERATOR)
        for token in (first, second):
            with pytest.raises(Unauthorised):
                sessions.current(session, token)
    assert sign_in(database, "robin", "another password").actor == person.id


def test_a_password_that_changes_while_it_is_verified_opens_nothing(
    database: Database, person: Moderator, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = moderators._matches

    def meanwhile(password_hash: str, password: str) -> bool:
        good = verify(password_hash, password)
        with database.write() as session:
            session.execute(update(Moderator).values(password_hash="another"))
        assert good
        return good

    monkeypatch.setattr(moderators, "_matches", meanwhile)
    with pytest.raises(Unauthorised):
        sign_in(database, "robin", PASSWORD)
    with database.read() as session:
        assert sessions.of_account(session, person.account_id) == []


@contextmanager
def all_turns_taken() -> Iterator[None]:
    with ExitStack() as taken:
        for _ in range(moderators.AT_ONCE):
            taken.enter_context(moderators.turns)
        yield


def test_a_process_verifies_a_few_passwords_at_a_time(
    database: Database, person: Moderator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moderators, "TURN_SECONDS", 0.01)
    with all_turns_taken(), pytest.raises(RateLimited) as refused:
        sign_in(database, "robin", PASSWORD)
    assert refused.value.seconds > 0
    for _ in range(moderators.AT_ONCE + 1):  # what was wrong gives its turn back
        with pytest.raises(Unauthorised):
            sign_in(database, "robin", "wrong password")
    assert sign_in(database, "robin", PASSWORD).actor == person.id


def test_an_id_finds_its_moderator_even_where_another_is_called_so(database: Database, person: Moderator) -> None:
    with database.write() as session:
        other = moderators.create(session, person.account_id, "other", "", Role.MODERATOR, audit.OPERATOR)
        other.name = person.id
        session.flush()
        assert moderators.find(session, person.account_id, person.id).name == "robin"
        with pytest.raises(InvalidSubmission, match="look like an id"):
            moderators.create(session, person.account_id, other.id, "", Role.MODERATOR, audit.OPERATOR)


def test_a_person_signs_in_however_the_keyboard_writes_the_name(database: Database, account_id: str) -> None:
    hashed = moderators.hash_password(PASSWORD)
    with database.write() as session:
        made = moderators.create(session, account_id, " Rene\u0301e ", hashed, Role.LEAD, audit.OPERATOR)
        assert made.name == "Ren\u00e9e"
        with pytest.raises(InvalidSubmission, match="taken"):
            moderators.create(session, account_id, "Ren\u00e9e", hashed, Role.LEAD, audit.OPERATOR)
    for name in ("Rene\u0301e", "Ren\u00e9e", " Ren\u00e9e"):
        assert sign_in(database, name, PASSWORD).actor == made.id


def test_a_name_is_taken_once_by_however_many_at_once(database: Database, account_id: str) -> None:
    together = threading.Barrier(6)

    def make(_: int) -> str:
        together.wait()
        try:
            with database.write() as session:
                return moderators.create(session, account_id, "robin", "", Role.LEAD, audit.OPERATOR).id
        except InvalidSubmission as error:
            return str(error)

    with ThreadPoolExecutor(6) as threads:
        said = sorted(threads.map(make, range(6)))
    assert said[0].startswith("mod_")
    assert all("taken" in each for each in said[1:])


def test_names_are_taken_once_and_passwords_are_long(database: Database, person: Moderator) -> None:
    with database.write() as session, pytest.raises(InvalidSubmission, match="taken"):
        moderators.create(session, person.account_id, "robin", "", Role.MODERATOR, audit.OPERATOR)
    with database.write() as session, pytest.raises(InvalidSubmission, match="name"):
        moderators.create(session, person.account_id, "  ", "", Role.MODERATOR, audit.OPERATOR)
    for password in ("short", "x" * 1025):
        with pytest.raises(InvalidSubmission, match="12 to 1024"):
            moderators.hash_password(password)
    with pytest.raises(InvalidSubmission, match="UTF-8"):
        moderators.hash_password("correct horse \udcff")
    with database.write() as session, pytest.raises(NotFound):
        moderators.find(session, "acc_other", "robin")
