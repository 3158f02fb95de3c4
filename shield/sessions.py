"""Browser sessions: who is signed in where. Each is a row that every request looks up, and that is deleted at its end.

A browser's cookie holds a token, of which a hash is kept: a copy of a cookie opens nothing once its session has ended.
"""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shield import audit
from shield.audit import Action
from shield.db import new_id, now
from shield.errors import Unauthorised
from shield.models import BrowserSession, Moderator
from shield.states import Role

DAYS = 30  # until a session is over, whatever is done in it
LINK = "link"  # who acts in a session that a link opened: whoever runs the installation


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sits at a browser: `actor` is a moderator's id or LINK, `name` the moderator's or empty."""

    account_id: str
    actor: str
    name: str
    role: Role


def start(session: Session, account_id: str, moderator_id: str | None = None) -> str:
    """A new session's token, for its cookie: of a moderator, else of a link, which may do everything."""
    token, moment = secrets.token_urlsafe(32), now(session)
    row = BrowserSession(
        id=new_id("ses"),
        account_id=account_id,
        moderator_id=moderator_id,
        token_sha256=_hash(token),
        opened_at=moment,
        expires_at=moment + timedelta(days=DAYS),
    )
    session.add(row)
    session.flush()
    return token


def current(session: Session, token: str) -> Visitor:
    """Who is signed in with this token. Raises Unauthorised where the session has ended or expired."""
    query = (
        select(BrowserSession.account_id, Moderator.id, Moderator.name, Moderator.role)
        .outerjoin(Moderator, Moderator.id == BrowserSession.moderator_id)
        .where(
            BrowserSession.token_sha256 == _hash(token),
            BrowserSession.expires_at > now(session),
            Moderator.disabled_at.is_(None),
        )
    )
    found = session.execute(query).one_or_none()
    if found is None:
        raise Unauthorised("this session is over: sign in again, or open another link from `python -m shield link`")
    account_id, moderator_id, name, role = found
    if moderator_id is None:
        return Visitor(account_id, LINK, "", Role.ADMIN)
    return Visitor(account_id, moderator_id, name, Role(role))


def leave(session: Session, token: str) -> None:
    """End the session of this token; harmless where it has ended."""
    gone = delete(BrowserSession).where(BrowserSession.token_sha256 == _hash(token)).returning(BrowserSession)
    row = session.scalars(gone).one_or_none()
    if row is not None:
        audit.note(session, Action.SESSION_ENDED, row.moderator_id or LINK, row.account_id, row.id)


def of_account(session: Session, account_id: str) -> list[tuple[BrowserSession, str | None]]:
    """The sessions of an account that are not over, oldest first, each with its moderator's name."""
    query = (
        select(BrowserSession, Moderator.name)
        .outerjoin(Moderator, Moderator.id == BrowserSession.moderator_id)
        .where(BrowserSession.account_id == account_id, BrowserSession.expires_at > now(session))
        .order_by(BrowserSession.id)
    )
    return [(row, name) for row, name in session.execute(query)]


def end(session: Session, account_id: str, session_ids: Collection[str], actor: str) -> None:
    """End these sessions of an account."""
    mine = BrowserSession.account_id == account_id
    gone = delete(BrowserSession).where(mine, BrowserSession.id.in_(session_ids)).returning(BrowserSession.id)
    for session_id in sorted(session.scalars(gone)):
        audit.note(session, Action.SESSION_ENDED, actor, account_id, session_id)


def end_all_of(session: Session, row: Moderator) -> None:
    """End all sessions of a moderator."""
    mine = (BrowserSession.account_id == row.account_id, BrowserSession.moderator_id == row.id)
    session.execute(delete(BrowserSession).where(*mine))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
