"""The audit log: what was done to accounts and their work, by whom. Entries are only ever added, and chained by hashes.

Each entry's hash covers the entry and the hash of the one before it, so that one that was changed, removed or put in
between is found by reading on. Whoever can write the whole table could compute all of it anew: keep the newest hash
somewhere else (`python -m shield audit verify` prints it) and verify against it.
"""

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shield.db import now
from shield.errors import AuditBroken
from shield.models import AuditEntry

START = "0" * 64  # what stands for the hash before the first entry
CHAIN_LOCK = 0x5348_4941  # the key of the advisory lock under which entries are added on PostgreSQL: "SHIA" in ASCII
OPERATOR = "operator"  # who runs `python -m shield`
HOUSE = "house"  # the process that does by itself what the rules say
PAGE = 1000


class Action(StrEnum):
    """What an entry is about."""

    ACCOUNT_CREATED = "account.created"
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    LINK_CREATED = "link.created"
    LINK_SPENT = "link.spent"
    LINK_REFUSED = "link.refused"  # it was spent already, or had expired
    SIGNED_IN = "moderator.signed_in"
    SIGN_IN_REFUSED = "moderator.sign_in_refused"
    SESSION_ENDED = "session.ended"  # left, or ended by the operator
    MODERATOR_CREATED = "moderator.created"
    MODERATOR_DISABLED = "moderator.disabled"
    MODERATOR_ENABLED = "moderator.enabled"
    PASSWORD_CHANGED = "moderator.password_changed"  # noqa: S105 - the name of an action
    ROLE_CHANGED = "moderator.role_changed"
    BUCKET_GRANTED = "s3.granted"
    BUCKET_DENIED = "s3.denied"
    JOB_DELETED = "job.deleted"
    CASES_DECIDED = "cases.decided"  # in bulk: single ones have rows of their own
    DECISION_UNDONE = "decision.undone"  # somebody else's
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_ROTATED = "webhook.rotated"  # its secret
    WEBHOOK_ENABLED = "webhook.enabled"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_DELETED = "webhook.deleted"
    POLICY_PUBLISHED = "policy.published"
    POLICY_ROLLED_BACK = "policy.rolled_back"


class Verified(NamedTuple):
    """How many entries there are, and the hash of the newest."""

    entries: int
    head: str


def note(session: Session, action: Action, actor: str, account_id: str | None, target: str = "", **detail: str) -> None:
    """Add an entry in this transaction. Secrets have no place in `detail`.

    One transaction at a time adds entries: it holds a lock until it ends. Call it last.
    """
    lock(session)
    last = session.execute(
        select(AuditEntry.number, AuditEntry.hash).order_by(AuditEntry.number.desc()).limit(1)
    ).one_or_none()
    number, before = (last.number + 1, last.hash) if last else (1, START)
    entry = AuditEntry(
        number=number,
        at=now(session),
        account_id=account_id,
        actor=actor,
        action=action,
        target=target,
        detail=json.dumps(detail, sort_keys=True),
    )
    entry.hash = _hash(entry, before)
    session.add(entry)
    session.flush()


def lock(session: Session) -> None:
    """Let nobody else add an entry until this transaction ends.

    `note` asks for it; who looks for a name before making something of that name asks before looking, so that two who
    do so at once find each other's.
    """
    if session.get_bind().dialect.name != "sqlite":  # there, whoever writes is alone already
        session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": CHAIN_LOCK})


def verify(session: Session, contains: str | None = None) -> Verified:
    """Read the whole log, in pages. Raises AuditBroken where an entry does not follow from the one before it.

    Raises it too where no entry has the hash `contains`, which was the newest one when it was written down: then the
    log was cut short or computed anew.
    """
    number, before, seen = 0, START, contains is None
    while True:
        query = select(AuditEntry).where(AuditEntry.number > number).order_by(AuditEntry.number).limit(PAGE)
        page = session.scalars(query).all()
        for entry in page:
            if entry.number != number + 1:
                raise AuditBroken(f"entry {number + 1} is missing: the next one is {entry.number}")
            if _hash(entry, before) != entry.hash:
                raise AuditBroken(f"entry {entry.number} was changed, or the one before it was")
            number, before = entry.number, entry.hash
            seen = seen or entry.hash == contains
        session.expunge_all()
        if len(page) < PAGE:
            break
    if not seen:
        raise AuditBroken(f"no entry has the hash {contains}: the log was cut short, or written anew")
    return Verified(number, before)


def newest(session: Session, account_id: str | None, limit: int) -> list[AuditEntry]:
    """The newest entries, of one account or of all; the newest first."""
    query = select(AuditEntry).order_by(AuditEntry.number.desc()).limit(limit)
    if account_id is not None:
        query = query.where(AuditEntry.account_id == account_id)
    return list(session.scalars(query))


def _hash(entry: AuditEntry, before: str) -> str:
    """SHA-256 of the entry and of the hash before it, as a JSON list: no two entries are written alike."""
    told = [entry.number, _moment(entry.at), entry.account_id, entry.actor, str(entry.action), entry.target]
    return hashlib.sha256(json.dumps([*told, entry.detail, before]).encode()).hexdigest()


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")
