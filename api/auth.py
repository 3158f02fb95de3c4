"""Who is asking: an account by its API key, or, on the pages alone, by its browser session."""

import secrets

from flask import Flask, g, request, session
from flask.sessions import SecureCookieSessionInterface

from api.errors import Forged
from api.stores import stores
from shield import accounts
from shield.errors import Unauthorised
from shield.models import Account

SESSION_DAYS = 30


class SessionCookies(SecureCookieSessionInterface):
    """Signed cookies that are marked Secure whenever the request came over https."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """Whether the browser may send the cookie over https only."""
        del app
        return request.is_secure


def require_key() -> None:
    """Find the account of the request's API key, for `account_id`. Raises Unauthorised."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorised("send an API key: `Authorization: Bearer dfs_live_...`")
    with stores().database.read() as db:
        g.account_id = accounts.account_of_key(db, key.strip())


def require_session() -> None:
    """Find the account of the browser's session, for `account_id`. Raises Unauthorised."""
    found = session.get("account")
    with stores().database.read() as db:
        if not found or db.get(Account, found) is None:
            raise Unauthorised("open a link from `python -m shield link` first: it starts a session in this browser")
    g.account_id = found


def account_id() -> str:
    """The account that this request acts for; every query is bound to it."""
    found: str = g.account_id
    return found


def open_session(account: str) -> None:
    """Start this browser's session, with nothing of what it held before."""
    session.clear()
    session.permanent = True
    session["account"] = account


def form_token() -> str:
    """The token that every form of this browser's session carries."""
    if "form" not in session:
        session["form"] = secrets.token_urlsafe(32)
    token: str = session["form"]
    return token


def check_form_token(given: str) -> None:
    """Raises Forged unless a form carries its session's token."""
    if not secrets.compare_digest(given.encode(), str(session.get("form", "")).encode()) or not given:
        raise Forged("this form was not sent from our page, or the page is out of date: reload it and try again")
