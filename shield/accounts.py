"""Accounts, their API keys, and the one-time links that open browser sessions. Only hashes of secrets are kept."""

import hashlib
import re
import secrets
import string
import zlib
from datetime import timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from shield.db import new_id, now
from shield.errors import NotFound, Unauthorised
from shield.models import Account, ApiKey, LoginLink

ALPHABET = string.digits + string.ascii_letters  # base62
KEY = re.compile(r"dfs_live_([0-9A-Za-z]{30})([0-9A-Za-z]{6})")
LINK_MINUTES = 30


def create_account(session: Session, name: str) -> Account:
    """A new account."""
    account = Account(id=new_id("acc"), name=name, created_at=now(session))
    session.add(account)
    session.flush()
    return account


def first_account(session: Session) -> Account | None:
    """The oldest account, or None on a fresh installation."""
    return session.scalars(select(Account).order_by(Account.id).limit(1)).first()


def find(session: Session, name: str) -> Account:
    """The account of this name or id. Raises NotFound."""
    found = session.scalars(select(Account).where(or_(Account.name == name, Account.id == name))).first()
    if found is None:
        raise NotFound(f"there is no account {name!r}: the first one is called `default`")
    return found


def create_key(session: Session, account_id: str) -> str:
    """A new API key, returned whole for the only time: dfs_live_, 30 random base62 characters, 6 of checksum."""
    random = "".join(secrets.choice(ALPHABET) for _ in range(30))
    session.add(ApiKey(id=new_id("key"), account_id=account_id, secret_sha256=_hash(random), created_at=now(session)))
    session.flush()
    return f"dfs_live_{random}{_checksum(random)}"


def account_of_key(session: Session, key: str) -> str:
    """The id of the account whose key this is. Raises Unauthorised for a malformed, unknown or revoked key.

    The secret has 178 bits, so a fast hash is enough, and the look-up by hash takes the same time for every wrong key.
    """
    match = KEY.fullmatch(key)
    if match is None or not secrets.compare_digest(_checksum(match[1]), match[2]):
        raise Unauthorised("this is not an API key: it should look like dfs_live_ and 36 characters")
    account_id = session.scalars(
        select(ApiKey.account_id).where(ApiKey.secret_sha256 == _hash(match[1]), ApiKey.revoked_at.is_(None))
    ).first()
    if account_id is None:
        raise Unauthorised("this API key is unknown or revoked: make one with `python -m shield key`")
    return account_id


def create_link(session: Session, account_id: str) -> str:
    """A token for a link that opens one browser session within half an hour."""
    token = secrets.token_urlsafe(32)
    expires = now(session) + timedelta(minutes=LINK_MINUTES)
    session.add(LoginLink(token_sha256=_hash(token), account_id=account_id, expires_at=expires))
    session.flush()
    return token


def spend_link(session: Session, token: str) -> str:
    """The id of the account that a link opens, once. Raises Unauthorised for an unknown, spent or expired one."""
    moment = now(session)
    account_id = session.execute(
        update(LoginLink)
        .where(LoginLink.token_sha256 == _hash(token), LoginLink.used_at.is_(None), LoginLink.expires_at > moment)
        .values(used_at=moment)
        .returning(LoginLink.account_id)
    ).scalar_one_or_none()
    if account_id is None:
        raise Unauthorised("this link is spent or expired: make another with `python -m shield link`")
    return account_id


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(random: str) -> str:
    """CRC-32 in six base62 digits: tells a typo or a cut-off key from an unknown one without a query."""
    value, digits = zlib.crc32(random.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
