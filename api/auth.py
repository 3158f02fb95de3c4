"""Who is asking: an account by its API key, or, on the pages alone, by its browser session."""

import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from flask import Flask, g, request, session
from flask.sessions import SecureCookieSessionInterface

from api.clients import Client
from api.errors import Forged
from api.limits import check_account, once_a_minute
from api.stores import stores
from shield import accounts, sessions
from shield.accounts import Key
from shield.db import now
from shield.errors import ScopeMissing, StorageUnavailable, Unauthorised
from shield.states import Role, Scope

USE_NOTED = timedelta(minutes=1)  # when a key was last used is known to the minute
USE_SECONDS = 0.05  # that noting it may wait for another writer


class SessionCookies(SecureCookieSessionInterface):
    """Signed cookies. Over https they are marked Secure, and no other host of the domain can set or read them.

    The prefix `__Host-` makes browsers hold to that (RFC 6265bis); over plain http they would refuse it.
    """

    def get_cookie_name(self, app: Flask) -> str:
        """The cookie's name, by how the request came."""
        name = super().get_cookie_name(app)
        return f"__Host-{name}" if request.is_secure else name

    def get_cookie_secure(self, app: Flask) -> bool:
        """Whether the browser may send the cookie over https only."""
        del app
        return request.is_secure


def requires(read: Scope, write: Scope) -> Callable[[], None]:
    """What a blueprint runs before each request: finds the account of its API key, for `account_id`.

    The key must have the scope `read` for GET and HEAD, and `write` for all else. Raises Unauthorised, ScopeMissing.
    """

    def check() -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthorised("send an API key: `Authorization: Bearer dfs_live_...`")
        found, moment = _identify(key.strip())
        check_account(found.account_id)
        needed = read if request.method in ("GET", "HEAD") else write
        if needed not in found.scopes:
            raise ScopeMissing(
                f"this key may not do this: it needs the scope {needed}, and has {', '.join(sorted(found.scopes))}."
                f" Make one that may: `python -m shield key --scope {needed}`"
            )
        _acts_for(found.account_id)
        g.actor, g.key, g.check_again = found.id, found, partial(_identify, key.strip())
        if found.used_at is None or moment - found.used_at > USE_NOTED:
            _note_use(found.id)

    return check


def _identify(key: str) -> tuple[Key, datetime]:
    with stores().database.read() as db:
        return accounts.identify(db, key), now(db)


def _note_use(key_id: str) -> None:
    """Note that a key is used. That it cannot be noted is no reason to refuse it, nor to try with its every request."""
    if once_a_minute("use", key_id):
        with suppress(StorageUnavailable), stores().database.write(wait=USE_SECONDS) as db:
            accounts.note_use(db, key_id)


def require_session(least: Role = Role.MODERATOR) -> None:
    """Find the account of the browser's session, for `account_id`. Raises Unauthorised, ScopeMissing.

    A session that a link opened is the operator's, who may do everything.
    """
    token = session.get("token")
    if not token:
        raise Unauthorised("sign in, or open a link from `python -m shield link`: it starts a session in this browser")
    with stores().database.read() as db:
        found = sessions.current(db, token)
    _acts_for(found.account_id)
    g.actor, g.role, g.person, g.check_again = found.actor, found.role, found.name, partial(require_session, least)
    roles = list(Role)
    if roles.index(found.role) < roles.index(least):
        raise ScopeMissing(f"this needs the role {least}, and you are {found.role}: ask an admin of your account")


def check_again() -> None:
    """Called once a body is read: who sends it slowly may have been locked out meanwhile, and would get in by it.

    Raises Unauthorised where the key or the session has ended since, ScopeMissing where the role is a lesser one now.
    """
    if "check_again" in g:  # anybody may send the forms of the front door
        g.check_again()


def _acts_for(account_id: str) -> None:
    """From here on the request is this account's, and so is the time that its client keeps a thread waiting."""
    g.account_id = account_id
    client = request.environ.get("gunicorn.socket")
    if isinstance(client, Client):
        client.account_id = account_id


def account_id() -> str:
    """The account that this request acts for; every query is bound to it."""
    found: str = g.account_id
    return found


def asking_key() -> Key:
    """The request's API key."""
    found: Key = g.key
    return found


def actor() -> str:
    """Who acts, for the audit log: the id of a key or of a moderator, or `link`."""
    found: str = g.actor
    return found


def open_session(token: str) -> None:
    """Let this browser's cookie hold a new session, after the one that it held has ended."""
    end_session()
    session.permanent = True
    session["token"] = token


def end_session() -> None:
    """End this browser's session, if it has one, and empty its cookie."""
    token = session.get("token")
    if token:
        with stores().database.write() as db:
            sessions.leave(db, token)
    session.clear()


def form_token() -> str:
    """The token that every form of this browser's session carries."""
    if "form" not in session:
        session["form"] = secrets.token_urlsafe(32)
    token: str = session["form"]
    return token


def check_form_token(given: str) -> None:
    """Raises Forged unless a form carries its session's token, and what `check_again` raises."""
    if not secrets.compare_digest(given.encode(), str(session.get("form", "")).encode()) or not given:
        raise Forged("this form was not sent from our page, or the page is out of date: reload it and try again")
    check_again()
