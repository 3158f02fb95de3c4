"""Moderators: people of an account, who sign in with a password. Only an argon2id hash of it is kept."""

import secrets
import threading
from collections.abc import Collection
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shield import audit, names, sessions
from shield.audit import Action
from shield.db import Database, new_id, now
from shield.errors import InvalidSubmission, NotFound, RateLimited, Unauthorised
from shield.models import Moderator
from shield.states import Role

SHORTEST, LONGEST = 12, 1024  # characters of a password
AT_ONCE = 2  # passwords that a process verifies at a time: each takes 64 MiB, and a core for a tenth of a second
TURN_SECONDS = 1.0  # that a sign-in waits for its turn: it keeps a thread from others meanwhile
WRONG = "this name and password do not belong together, or the person was disabled"

# RFC 9106's second recommended option (64 MiB, three passes), with one lane: a small server signs in one at a time.
hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
turns = threading.BoundedSemaphore(AT_ONCE)


def create(session: Session, account_id: str, name: str, password_hash: str, role: Role, actor: str) -> Moderator:
    """A new moderator. Raises InvalidSubmission for a name that is taken, or is none."""
    name = names.check(name, "a moderator")
    audit.lock(session)
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
    if not names.is_text(password):
        raise InvalidSubmission("the password is not UTF-8: set the terminal to it, and type it again", "/password")
    return hasher.hash(password)


def new_password() -> str:
    """One that nobody will guess: 120 bits."""
    return secrets.token_urlsafe(15)


def sign_in(database: Database, name: str, password: str, network: str) -> str:
    """The token of a new session of the moderator whose name and password these are.

    The audit log notes the network that it comes from. Raises Unauthorised, after as long, whichever is wrong, and
    RateLimited while too many passwords are verified already.
    """
    name = names.tidy(name)
    if "\0" in name:
        name = ""  # nobody's: PostgreSQL takes no NUL
    with database.read() as session:
        row = session.scalars(select(Moderator).where(Moderator.name == name)).first()
    good = _matches(_nobody() if row is None else row.password_hash, password)
    with database.write() as session:
        if row is not None and good and _unchanged(session, row):
            token = sessions.start(session, row.account_id, row.id)
            audit.note(session, Action.SIGNED_IN, row.id, row.account_id, row.id, network=network)
            return token
        account_id, target = (None, "") if row is None else (row.account_id, row.id)
        audit.note(session, Action.SIGN_IN_REFUSED, "nobody", account_id, target, network=network)
    raise Unauthorised(WRONG)


def _unchanged(session: Session, row: Moderator) -> bool:
    """Whether the password that was verified still lets a moderator in, and will until this transaction ends."""
    same = (Moderator.password_hash == row.password_hash, Moderator.disabled_at.is_(None))
    query = select(Moderator.id).where(Moderator.id == row.id, *same).with_for_update(read=True)
    return session.scalars(query).one_or_none() is not None


def find(session: Session, account_id: str, name: str) -> Moderator:
    """The moderator of this id or name, to be changed. Raises NotFound."""
    query = select(Moderator).where(Moderator.account_id == account_id).with_for_update()
    row = session.scalars(query.where(Moderator.id == name)).first()
    row = row or session.scalars(query.where(Moderator.name == names.tidy(name))).first()
    if row is None:
        raise NotFound(f"no moderator {name!r} in this account")
    return row


def of_account(session: Session, account_id: str) -> list[Moderator]:
    """The moderators of an account, oldest first."""
    return list(session.scalars(select(Moderator).where(Moderator.account_id == account_id).order_by(Moderator.id)))


def set_password(session: Session, row: Moderator, password_hash: str, actor: str) -> None:
    """Give a moderator another password, and end all of their sessions."""
    row.password_hash = password_hash
    session.flush()
    sessions.end_all_of(session, row)
    audit.note(session, Action.PASSWORD_CHANGED, actor, row.account_id, row.id)


def set_role(session: Session, row: Moderator, role: Role, actor: str) -> None:
    """Let a moderator do more, or less, from the next request on."""
    before, row.role = row.role, role
    session.flush()
    audit.note(session, Action.ROLE_CHANGED, actor, row.account_id, row.id, before=before, after=role)


def prefer(session: Session, account_id: str, moderator_id: str, blur: bool, greyscale: bool) -> None:
    """Show a moderator the photos of cases blurred or sharp, and in grey or in colour, from now on."""
    mine = update(Moderator).where(Moderator.id == moderator_id, Moderator.account_id == account_id)
    session.execute(mine.values(blur=blur, greyscale=greyscale))


def names_of(session: Session, account_id: str, ids: Collection[str]) -> dict[str, str]:
    """The names of those of these ids that are moderators of this account, of disabled ones too."""
    query = select(Moderator.id, Moderator.name).where(Moderator.account_id == account_id, Moderator.id.in_(ids))
    return {row.id: row.name for row in session.execute(query)}


def set_disabled(session: Session, row: Moderator, disabled: bool, actor: str) -> None:
    """Lock a moderator out, and end all of their sessions; or let them in again."""
    row.disabled_at = now(session) if disabled else None
    session.flush()
    sessions.end_all_of(session, row)
    action = Action.MODERATOR_DISABLED if disabled else Action.MODERATOR_ENABLED
    audit.note(session, action, actor, row.account_id, row.id)


@cache
def _nobody() -> str:
    """The hash of a password that nobody has: an unknown name takes as long as a wrong password."""
    return hasher.hash(secrets.token_urlsafe(32))


def _matches(password_hash: str, password: str) -> bool:
    if not turns.acquire(timeout=TURN_SECONDS):
        raise RateLimited("many people are signing in: wait a few seconds and try again", 5 * TURN_SECONDS)
    try:
        return hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
    finally:
        turns.release()
