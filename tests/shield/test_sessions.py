"""Browser sessions: rows that are looked up at each request, and are gone when the session is over."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from shield import accounts, audit, moderators, retention, sessions
from shield.db import Database, now
from shield.errors import Unauthorised
from shield.models import BrowserSession, LoginLink
from shield.sessions import LINK
from shield.states import Role


def test_a_session_opens_its_account_and_its_token_is_kept_nowhere(database: Database, account_id: str) -> None:
    with database.write() as session:
        token = sessions.start(session, account_id)
    with database.read() as session:
        found = sessions.current(session, token)
        assert (found.account_id, found.actor, found.name, found.role) == (account_id, LINK, "", Role.ADMIN)
        assert token not in str(session.execute(text("select * from browser_session")).all())
        with pytest.raises(Unauthorised, match="over"):
            sessions.current(session, token + "x")


def test_a_session_is_over_once_it_was_left_and_no_other_is(database: Database, account_id: str) -> None:
    with database.write() as session:
        token, other = sessions.start(session, account_id), sessions.start(session, account_id)
        for _ in range(2):
            sessions.leave(session, token)
        with pytest.raises(Unauthorised):
            sessions.current(session, token)
        assert sessions.current(session, other).account_id == account_id
        [left, _] = audit.newest(session, account_id, 2)
        assert (left.action, left.actor) == ("session.ended", LINK)


def test_a_session_expires_and_is_forgotten_with_its_link(database: Database, account_id: str) -> None:
    def opened_by_a_link() -> str:
        with database.write() as session:
            link = accounts.create_link(session, account_id)
        return accounts.spend_link(database, link, "unknown")

    old = opened_by_a_link()
    with database.write() as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(BrowserSession).values(expires_at=past))
        session.execute(update(LoginLink).values(expires_at=past))
    young = opened_by_a_link()
    with database.write() as session:
        with pytest.raises(Unauthorised):
            sessions.current(session, old)
        retention.forget_sign_ins(session)
        for table in (BrowserSession, LoginLink):
            assert session.scalar(select(func.count()).select_from(table)) == 1
        assert sessions.current(session, young).account_id == account_id


def test_an_account_lists_and_ends_its_own_sessions_alone(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
        robin = moderators.create(session, account_id, "robin", "", Role.LEAD, audit.OPERATOR)
        by_link, by_robin = sessions.start(session, account_id), sessions.start(session, account_id, robin.id)
        theirs = sessions.start(session, other)
        listed = sessions.of_account(session, account_id)
        assert [name for _, name in listed] == [None, "robin"]
        ids = [row.id for row, _ in listed]
        sessions.end(session, other, ids, audit.OPERATOR)
        assert sessions.current(session, by_link).account_id == account_id
        sessions.end(session, account_id, ids[:1], audit.OPERATOR)
        assert audit.newest(session, account_id, 1)[0].target == ids[0]
        with pytest.raises(Unauthorised):
            sessions.current(session, by_link)
        assert sessions.current(session, by_robin).actor == robin.id
        assert sessions.current(session, theirs).account_id == other
