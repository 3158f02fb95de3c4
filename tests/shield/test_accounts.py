import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update

from shield import accounts, audit, sessions
from shield.db import Database, now
from shield.errors import InvalidSubmission, NotFound, ScopeMissing, Unauthorised
from shield.models import Account, ApiKey, LoginLink
from shield.states import Scope


def test_a_key_opens_its_account_and_its_secret_is_kept_nowhere(database: Database, account_id: str) -> None:
    with database.write() as session:
        key = accounts.create_key(session, account_id)
    with database.read() as session:
        assert accounts.identify(session, key).account_id == account_id
        rows = session.execute(text("select * from api_key")).all()
        assert key[9:39] not in str(rows)


def test_wrong_unknown_and_revoked_keys_are_refused(database: Database, account_id: str) -> None:
    with database.write() as session:
        key = accounts.create_key(session, account_id)
        for wrong in ("", "dfs_live_", key[:-1], key[:-1] + ("0" if key[-1] != "0" else "1"), "Bearer x"):
            with pytest.raises(Unauthorised, match="not an API key"):
                accounts.identify(session, wrong)
        session.execute(update(ApiKey).values(revoked_at=now(session)))
        with pytest.raises(Unauthorised, match="unknown or revoked"):
            accounts.identify(session, key)


def test_a_key_says_what_it_may_do_and_ends_when_it_should(database: Database, account_id: str) -> None:
    with database.write() as session:
        every = accounts.create_key(session, account_id)
        narrow = accounts.create_key(session, account_id, "reader", [Scope.JOBS_READ], days=1)
        assert accounts.identify(session, every).scopes == set(Scope)
        assert accounts.identify(session, narrow).scopes == {"jobs:read"}
        _, row = accounts.keys(session, account_id)
        assert (row.name, row.hint, row.used_at) == ("reader", narrow[-4:], None)
        accounts.note_use(session, row.id)
        assert accounts.identify(session, narrow).used_at is not None
        session.execute(update(ApiKey).where(ApiKey.id == row.id).values(expires_at=now(session)))
        with pytest.raises(Unauthorised, match="expired"):
            accounts.identify(session, narrow)


def test_a_key_is_revoked_by_its_own_account_alone(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
        key = accounts.create_key(session, account_id)
        key_id = accounts.identify(session, key).id
        with pytest.raises(NotFound):
            accounts.revoke_key(session, other, key_id)
        first = accounts.revoke_key(session, account_id, key_id).revoked_at
        assert accounts.revoke_key(session, account_id, key_id).revoked_at == first
        with pytest.raises(Unauthorised, match="revoked"):
            accounts.identify(session, key)


def test_a_link_opens_one_session(database: Database, account_id: str) -> None:
    with database.write() as session:
        token = accounts.create_link(session, account_id)
    opened = accounts.spend_link(database, token, "192.0.2.0/24")
    for wrong in (token, "another"):
        with pytest.raises(Unauthorised, match="spent or expired"):
            accounts.spend_link(database, wrong, "198.51.100.0/24")
    with database.read() as session:
        assert sessions.current(session, opened).account_id == account_id
        noted = [(entry.action, json.loads(entry.detail)) for entry in audit.newest(session, account_id, 2)]
    assert noted == [
        ("link.refused", {"network": "198.51.100.0/24"}),  # of the one link that there was
        ("link.spent", {"network": "192.0.2.0/24"}),
    ]


def test_a_link_that_there_never_was_waits_for_no_writer(database: Database) -> None:
    with database.write(), pytest.raises(Unauthorised, match="spent or expired"):
        accounts.spend_link(database, "another", "unknown")


def test_a_link_expires(database: Database, account_id: str) -> None:
    with database.write() as session:
        token = accounts.create_link(session, account_id)
        session.execute(update(LoginLink).values(expires_at=now(session) - timedelta(seconds=1)))
    with pytest.raises(Unauthorised, match="spent or expired"):
        accounts.spend_link(database, token, "unknown")


def test_a_key_does_not_outlive_the_one_that_makes_it(database: Database, account_id: str) -> None:
    with database.write() as session:
        until = now(session) + timedelta(days=2)
        short = accounts.identify(session, accounts.create_key(session, account_id, days=1, until=until))
        without = accounts.identify(session, accounts.create_key(session, account_id, until=until))
        assert short.expires_at is not None
        assert short.expires_at < until
        assert without.expires_at == until
        with pytest.raises(ScopeMissing, match="cannot outlive"):
            accounts.create_key(session, account_id, days=3, until=until)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "1 to 200 characters"),
        ("   ", "1 to 200 characters"),
        ("x" * 201, "1 to 200 characters"),
        ("ac\0me", "cannot be seen"),
        ("ac\x1b[2Jme", "cannot be seen"),
        ("ac\nme", "cannot be seen"),
        ("ac\u202eme", "cannot be seen"),
        ("ac\udcffme", "cannot be seen"),
        ("acc_" + "0" * 27, "look like an id"),
        ("acme", "already"),
        (" acme ", "already"),
    ],
)
def test_what_is_no_name_of_an_account_says_why(database: Database, account_id: str, name: str, why: str) -> None:
    with pytest.raises(InvalidSubmission, match=why), database.write() as session:
        accounts.create_account(session, name)


def test_a_name_is_taken_once_by_however_many_at_once(database: Database) -> None:
    together = threading.Barrier(6)

    def make(_: int) -> str:
        together.wait()
        try:
            with database.write() as session:
                return accounts.create_account(session, "acme").id
        except InvalidSubmission as error:
            return str(error)

    with ThreadPoolExecutor(6) as threads:
        said = sorted(threads.map(make, range(6)))
    assert said[0].startswith("acc_")
    assert all("already" in each for each in said[1:])


def test_an_id_finds_its_account_even_where_another_is_called_so(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
        session.execute(update(Account).where(Account.id == other).values(name=account_id))
    with database.read() as session:
        assert accounts.find(session, account_id).id == account_id
        assert accounts.find(session, "acme").id == account_id
        assert session.scalars(select(Account.id).where(Account.name == account_id)).all() == [other]


def test_a_name_is_found_however_its_characters_are_written(database: Database) -> None:
    with database.write() as session:
        made = accounts.create_account(session, " Mu\u0308ller ")
        assert made.name == "M\u00fcller"
        for name in ("Mu\u0308ller", "M\u00fcller", "M\u00fcller "):
            assert accounts.find(session, name).id == made.id
