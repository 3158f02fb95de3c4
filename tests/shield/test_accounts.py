from datetime import timedelta

import pytest
from sqlalchemy import text, update

from shield import accounts
from shield.db import Database, now
from shield.errors import Unauthorised
from shield.models import ApiKey, LoginLink


def test_a_key_opens_its_account_and_its_secret_is_kept_nowhere(database: Database, account_id: str) -> None:
    with database.write() as session:
        key = accounts.create_key(session, account_id)
    with database.read() as session:
        assert accounts.account_of_key(session, key) == account_id
        rows = session.execute(text("select * from api_key")).all()
        assert key[9:39] not in str(rows)


def test_wrong_unknown_and_revoked_keys_are_refused(database: Database, account_id: str) -> None:
    with database.write() as session:
        key = accounts.create_key(session, account_id)
        for wrong in ("", "dfs_live_", key[:-1], key[:-1] + ("0" if key[-1] != "0" else "1"), "Bearer x"):
            with pytest.raises(Unauthorised, match="not an API key"):
                accounts.account_of_key(session, wrong)
        session.execute(update(ApiKey).values(revoked_at=now(session)))
        with pytest.raises(Unauthorised, match="unknown or revoked"):
            accounts.account_of_key(session, key)


def test_a_link_opens_one_session(database: Database, account_id: str) -> None:
    with database.write() as session:
        token = accounts.create_link(session, account_id)
        assert accounts.spend_link(session, token) == account_id
        with pytest.raises(Unauthorised, match="spent or expired"):
            accounts.spend_link(session, token)


def test_a_link_expires(database: Database, account_id: str) -> None:
    with database.write() as session:
        token = accounts.create_link(session, account_id)
        session.execute(update(LoginLink).values(expires_at=now(session) - timedelta(seconds=1)))
        with pytest.raises(Unauthorised, match="spent or expired"):
            accounts.spend_link(session, token)
