"""Accounts, their API keys, and the one-time links that open browser sessions. Only hashes of secrets are kept."""

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shield import audit, names, sessions
from shield.audit import Action
from shield.db import Database, new_id, now
from shield.errors import InvalidSubmission, NotFound, ScopeMissing, Unauthorised
from shield.models import Account, ApiKey, LoginLink
from shield.states import Scope

ALPHABET = string.digits + string.ascii_letters  # base62
KEY = re.compile(r"dfs_live_([0-9A-Za-z]{30})([0-9A-Za-z]{6})")
HINT = 4  # last characters of a key that are kept to tell it by
LINK_MINUTES = 30
LEAST_DAYS, MOST_DAYS = 0.01, 3650  # until a key expires


def create_account(session: Session, name: str) -> Account:
    """A new account. Raises InvalidSubmission for a name that is taken, or is none."""
    name = names.check(name, "an account")
    audit.lock(session)
    if session.scalars(select(Account.id).where(Account.name == name)).first() is not None:
        raise InvalidSubmission(f"there is an account {name!r} already: choose another name", "/name")
    account = Account(id=new_id("acc"), name=name, created_at=now(session))
    session.add(account)
    session.flush()
    audit.note(session, Action.ACCOUNT_CREATED, audit.OPERATOR, account.id, account.id, name=name)
    return account


def first_account(session: Session) -> Account | None:
    """The oldest account, or None on a fresh installation."""
    return session.scalars(select(Account).order_by(Account.id).limit(1)).first()


def find(session: Session, name: str) -> Account:
    """The account of this id or name. Raises NotFound."""
    named = select(Account).where(Account.name == names.tidy(name))
    found = session.get(Account, name) or session.scalars(named).first()
    if found is None:
        raise NotFound(f"there is no account {name!r}: the first one is called `default`")
    return found


@dataclass(frozen=True, slots=True)
class Key:
    """A good key: whose it is, and what it may do."""

    id: str
    account_id: str
    scopes: frozenset[str]
    used_at: datetime | None
    expires_at: datetime | None


def create_key(
    session: Session,
    account_id: str,
    name: str = "",
    scopes: Collection[Scope] = tuple(Scope),
    days: float | None = None,
    actor: str = audit.OPERATOR,
    until: datetime | None = None,
) -> str:
    """A new API key, returned whole for the only time: dfs_live_, 30 random base62 characters, 6 of checksum.

    It expires after `days`, LEAST_DAYS to MOST_DAYS; without them at `until`, when what makes it expires, or never.
    Raises ScopeMissing where it would outlive that.
    """
    random = "".join(secrets.choice(ALPHABET) for _ in range(30))
    key = f"dfs_live_{random}{_checksum(random)}"
    moment = now(session)
    expires_at = until if days is None else moment + timedelta(days=days)
    if until is not None and expires_at is not None and expires_at > until:
        raise ScopeMissing(f"a key cannot outlive the one that makes it, which expires at {until:%Y-%m-%dT%H:%M:%SZ}")
    row = ApiKey(
        id=new_id("key"),
        account_id=account_id,
        name=name,
        hint=key[-HINT:],
        scopes=[str(scope) for scope in Scope if scope in scopes],
        secret_sha256=_hash(random),
        created_at=moment,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    audit.note(session, Action.KEY_CREATED, actor, account_id, row.id, name=name, scopes=" ".join(row.scopes))
    return key


def identify(session: Session, key: str) -> Key:
    """The key that this is. Raises Unauthorised for a malformed, unknown, revoked or expired one.

    The secret has 178 bits, so a fast hash is enough, and the look-up by hash takes the same time for every wrong key.
    Nothing is remembered: a key that is revoked is refused from the next request on.
    """
    match = KEY.fullmatch(key)
    if match is None or not secrets.compare_digest(_checksum(match[1]), match[2]):
        raise Unauthorised("this is not an API key: it should look like dfs_live_ and 36 characters")
    row = session.scalars(
        select(ApiKey).where(ApiKey.secret_sha256 == _hash(match[1]), ApiKey.revoked_at.is_(None))
    ).first()
    if row is None:
        raise Unauthorised("this API key is unknown or revoked: make one with `python -m shield key`")
    if row.expires_at is not None and row.expires_at <= now(session):
        raise Unauthorised("this API key has expired: make one with `python -m shield key`")
    return Key(row.id, row.account_id, frozenset(row.scopes), row.used_at, row.expires_at)


def note_use(session: Session, key_id: str) -> None:
    """Note that a key was used now."""
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(used_at=now(session)))


def keys(session: Session, account_id: str) -> list[ApiKey]:
    """The keys of an account, oldest first, also those that are revoked or have expired."""
    return list(session.scalars(select(ApiKey).where(ApiKey.account_id == account_id).order_by(ApiKey.id)))


def revoke_key(session: Session, account_id: str, key_id: str, actor: str = audit.OPERATOR) -> ApiKey:
    """Let a key open nothing any more; harmless for one that was revoked. Raises NotFound."""
    row = session.scalars(
        select(ApiKey).where(ApiKey.id == key_id, ApiKey.account_id == account_id).with_for_update()
    ).first()
    if row is None:
        raise NotFound(f"no API key {key_id} in this account")
    if row.revoked_at is None:
        row.revoked_at = now(session)
        session.flush()
        audit.note(session, Action.KEY_REVOKED, actor, account_id, key_id, name=row.name)
    return row


def create_link(session: Session, account_id: str) -> str:
    """A token for a link that opens one browser session within half an hour."""
    token = secrets.token_urlsafe(32)
    expires = now(session) + timedelta(minutes=LINK_MINUTES)
    session.add(LoginLink(token_sha256=_hash(token), account_id=account_id, expires_at=expires))
    session.flush()
    audit.note(session, Action.LINK_CREATED, audit.OPERATOR, account_id)
    return token


def spend_link(database: Database, token: str, network: str) -> str:
    """The token of a new browser session, which a link opens once. Raises Unauthorised for one that opens none.

    The audit log notes the network that it comes from, also where a link is spent once more, or too late. A link that
    there never was waits for no writer: anybody may ask.
    """
    opened = None
    with database.read() as session:
        known = session.get(LoginLink, _hash(token)) is not None
    if known:
        with database.write() as session:
            opened = _spend_link(session, token, network)
    if opened is None:
        raise Unauthorised("this link is spent or expired: make another with `python -m shield link`")
    return opened


def _spend_link(session: Session, token: str, network: str) -> str | None:
    moment = now(session)
    account_id = session.execute(
        update(LoginLink)
        .where(LoginLink.token_sha256 == _hash(token), LoginLink.used_at.is_(None), LoginLink.expires_at > moment)
        .values(used_at=moment)
        .returning(LoginLink.account_id)
    ).scalar_one_or_none()
    if account_id is None:
        was = session.get(LoginLink, _hash(token))
        if was is not None:  # not forgotten meanwhile
            audit.note(session, Action.LINK_REFUSED, "nobody", was.account_id, network=network)
        return None
    opened = sessions.start(session, account_id)
    audit.note(session, Action.LINK_SPENT, sessions.LINK, account_id, network=network)
    return opened


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(random: str) -> str:
    """CRC-32 in six base62 digits: tells a typo or a cut-off key from an unknown one without a query."""
    value, digits = zlib.crc32(random.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
