"""Moderators: people of an account, who sign in with a password. Only an argon2id hash of it is kept."""

import secrets
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from shield import audit
from shield.audit import Action
from shield.db import Database, new_id, now
from shield.errors import InvalidSubmission, NotFound, Unauthorised
from shield.models import Moderator
from shield.states import Role

SHORTEST, LONGEST = 12, 1024  # characters of a password
LONGEST_NAME = 200  # characters
WRONG = "this name and password do not belong together, or the person was disabled"

# RFC 9106's second recommended option (64 MiB, three passes), with one lane: a small server signs in one at a time.
hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)


def create(session: Session, account_id: str, name: str, password_hash: str, role: Role, actor: str) -> Moderator:
    """A new moderator. Raises InvalidSubmission for a name that is taken or empty."""
    if not name.strip() or "\0" in name or len(name) > LONGEST_NAME:
        raise InvalidSubmission(f"a moderator needs a name of 1 to {LONGEST_NAME} characters", "/name")
    if session.scalars(select(Moderator.id).where(Moderator.name == name)).first() is not None:
        raise InvalidSubmission(f"the name {name!r} is taken: choose another", "/name")
    row = Moderator(
        id=new_id("mod"),
        account_id=account_id,
        name=name,
        role=role,
        password_hash=password_hash,
        created_at=now(session),
    )
    session.add(row)
    session.flush()
    audit.note(session, Action.MODERATOR_CREATED, actor, account_id, row.id, name=name, role=role)
    return row


def hash_password(password: str) -> str:
    """Its argon2id hash, which takes a while: call it outside a transaction. Raises InvalidSubmission."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidSubmission(f"a password has {SHORTEST} to {LONGEST} characters: choose a longer one", "/password")
    return hasher.hash(password)


def new_password() -> str:
    """One that nobody will guess: 120 bits."""
    return secrets.token_urlsafe(15)


def sign_in(database: Database, name: str, password: str) -> Moderator:
    """The moderator whose name and password these are. Raises Unauthorised, after as long, whichever is wrong."""
    if "\0" in name or len(name) > LONGEST_NAME:
        name = ""  # nobody's: PostgreSQL takes no NUL
    with database.read() as session:
        row = session.scalars(select(Moderator).where(Moderator.name == name, Moderator.disabled_at.is_(None))).first()
    good = _matches(_nobody() if row is None else row.password_hash, password)
    with database.write() as session:
        if row is None or not good:
            account_id = None if row is None else row.account_id
            audit.note(session, Action.SIGN_IN_REFUSED, "nobody", account_id, "" if row is None else row.id)
        else:
            audit.note(session, Action.SIGNED_IN, row.id, row.account_id, row.id)
    if row is None or not good:
        raise Unauthorised(WRONG)
    return row


def current(session: Session, moderator_id: str, sessions: int) -> Moderator:
    """The moderator of a browser session. Raises Unauthorised once the password changed or the person is disabled."""
    row = session.get(Moderator, moderator_id)
    if row is None or row.disabled_at is not None or row.sessions != sessions:
        raise Unauthorised("this session is over: sign in again")
    return row


def find(session: Session, account_id: str, name: str) -> Moderator:
    """The moderator of this name or id, to be changed. Raises NotFound."""
    query = select(Moderator).where(Moderator.account_id == account_id)
    row = session.scalars(query.where((Moderator.name == name) | (Moderator.id == name)).with_for_update()).first()
    if row is None:
        raise NotFound(f"no moderator {name!r} in this account")
    return row


def of_account(session: Session, account_id: str) -> list[Moderator]:
    """The moderators of an account, oldest first."""
    return list(session.scalars(select(Moderator).where(Moderator.account_id == account_id).order_by(Moderator.id)))


def set_password(session: Session, row: Moderator, password_hash: str, actor: str) -> None:
    """Give a moderator another password, and end all of their sessions."""
    row.password_hash, row.sessions = password_hash, row.sessions + 1
    session.flush()
    audit.note(session, Action.PASSWORD_CHANGED, actor, row.account_id, row.id)


def set_role(session: Session, row: Moderator, role: Role, actor: str) -> None:
    """Let a moderator do more, or less, from the next request on."""
    before, row.role = row.role, role
    session.flush()
    audit.note(session, Action.ROLE_CHANGED, actor, row.account_id, row.id, before=before, after=role)


def set_disabled(session: Session, row: Moderator, disabled: bool, actor: str) -> None:
    """Lock a moderator out, and end all of their sessions; or let them in again."""
    row.disabled_at = now(session) if disabled else None
    row.sessions += 1
    session.flush()
    action = Action.MODERATOR_DISABLED if disabled else Action.MODERATOR_ENABLED
    audit.note(session, action, actor, row.account_id, row.id)


@cache
def _nobody() -> str:
    """The hash of a password that nobody has: an unknown name takes as long as a wrong password."""
    return hasher.hash(secrets.token_urlsafe(32))


def _matches(password_hash: str, password: str) -> bool:
    try:
        return hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
