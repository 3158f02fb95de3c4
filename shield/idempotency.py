"""Idempotency keys: a client that does not know whether its request arrived sends it again, and gets the same job.

A key is written in the transaction that makes its job, so there is no key without a job. Two requests at once with one
key wait for each other: the second begins once the first has committed, and reads its answer. So nobody is told that a
request is in flight, and nobody has to guess how long to wait.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from shield.db import now
from shield.errors import IdempotencyKeyReused
from shield.models import IdempotencyKey, Job


def fingerprint(asked: Mapping[str, object]) -> str:
    """The sha256 of what was asked for, in canonical JSON: equal requests have equal ones."""
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def job_of(session: Session, account_id: str, key: str, asked: str) -> str | None:
    """The job that this key made before; None where it is new: then the caller makes one, and `remember`s it.

    Waits for another transaction that does the same. Raises IdempotencyKeyReused when that request's fingerprint was
    another one than `asked`.
    """
    if session.get_bind().dialect.name == "postgresql":
        # Until this transaction ends. On SQLite it began with BEGIN IMMEDIATE, and is alone.
        lock = func.hashtextextended(f"{account_id} {key}", 0)
        session.execute(select(func.pg_advisory_xact_lock(lock)))
    found = session.get(IdempotencyKey, (account_id, key))
    if found is None:
        return None
    if found.fingerprint != asked:
        raise IdempotencyKeyReused(
            f"the idempotency key was sent before with another request, which made {found.job_id}: "
            "use a new key for a new request, and the same body for a repetition"
        )
    return found.job_id


def remember(session: Session, key: str, asked: str, job: Job) -> None:
    """Note that this key made this job, in the same transaction."""
    session.add(
        IdempotencyKey(account_id=job.account_id, key=key, fingerprint=asked, job_id=job.id, created_at=now(session))
    )


def forget(session: Session, hours: float, limit: int) -> int:
    """Forget keys older than so many hours, up to `limit`; how many."""
    identity = tuple_(IdempotencyKey.account_id, IdempotencyKey.key)
    old = select(IdempotencyKey.account_id, IdempotencyKey.key)
    old = old.where(IdempotencyKey.created_at < now(session) - timedelta(hours=hours))
    old = old.order_by(IdempotencyKey.created_at).limit(limit)
    gone = delete(IdempotencyKey).where(identity.in_(old)).returning(IdempotencyKey.key)
    return len(session.scalars(gone, execution_options={"synchronize_session": False}).all())
