"""Quotas: how many images an account may submit within 24 hours."""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shield.db import first_id, now
from shield.errors import QuotaUsed
from shield.models import Account, Job

WINDOW = timedelta(hours=24)


def lock(session: Session, account_id: str, most: int) -> None:
    """Let no other job of this account be written until this transaction ends, where there is a quota.

    Asked before the job is written: its row refers to the account's, and two that hold that reference would deadlock.
    """
    if most:
        session.execute(select(Account.id).where(Account.id == account_id).with_for_update())


def check(session: Session, account_id: str, most: int) -> None:
    """Raises QuotaUsed when the jobs of the last 24 hours hold more than `most` images; 0: as many as they like.

    Asked in the transaction that has locked the account and written a job: so no two requests pass at once. What is
    deleted counts until it is purged; a source counts with what it has become, and becomes no more than the quota.
    """
    if not most:
        return
    moment = now(session)
    used, first = session.execute(
        select(func.coalesce(func.sum(Job.total), 0), func.min(Job.created_at)).where(
            Job.account_id == account_id, Job.id >= first_id("job", moment - WINDOW)
        )
    ).one()
    if used > most:
        seconds = (first + WINDOW - moment).total_seconds()
        raise QuotaUsed(
            f"these would be {used:,} images of this account within 24 hours, and its quota is {most:,}: nothing was"
            " accepted. Wait, or ask the operator for more",
            max(1.0, seconds),
        )


def used_up(session: Session, most: int) -> set[str]:
    """The accounts whose jobs of the last 24 hours hold `most` images or more: their sources wait. Of 0: none."""
    if not most:
        return set()
    recent = select(Job.account_id).where(Job.id >= first_id("job", now(session) - WINDOW))
    return set(session.scalars(recent.group_by(Job.account_id).having(func.sum(Job.total) >= most)))
