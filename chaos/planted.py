"""Bugs that are planted from outside, to show that the checks find them."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from shield import dispatch

COMMIT_DELAY = 0.5  # seconds between the 202 and the commit of the planted bug


def plant(name: str) -> None:
    """Break this process's programs. Raises KeyError for a bug that is not known."""
    if name:
        BUGS[name]()


def no_fencing() -> None:
    """A worker records what it scanned, whoever holds the lease by now, and over what is recorded already."""
    from sqlalchemy import select, update

    from shield.db import now
    from shield.models import Chunk, Item

    fenced = dispatch.record

    def record(session: Any, held: dispatch.Lease, outcomes: Any) -> int:
        ids = [outcome.item_id for outcome in outcomes]
        ended = session.scalars(select(Item.id).where(Item.id.in_(ids), Item.ended_at.is_not(None))).all()
        session.execute(update(Item).where(Item.id.in_(ended)).values(ended_at=now(session)))
        chunk = session.get_one(Chunk, held.chunk_id)
        if chunk.lease_token:
            chunk.lease_until = now(session) + timedelta(hours=1)
            session.flush()
            held = replace(held, token=chunk.lease_token)
        return len(ended) + fenced(session, held, outcomes)

    dispatch.record = record


def ack_before_commit() -> None:
    """A message is acknowledged before its work is done, and nothing looks for what a dead worker held."""
    from shield import queue

    made = queue.celery_app

    def celery_app(url: str) -> Any:
        app = made(url)
        app.conf.update(task_acks_late=False, task_reject_on_worker_lost=False)
        return app

    queue.celery_app = celery_app
    dispatch.sweep = lambda *_args, **_named: 0


def no_outbox() -> None:
    """The API answers 202 and commits afterwards."""
    from api import submissions
    from api.stores import stores
    from api.submissions import Accepted
    from shield import idempotency, jobs

    def make_once(make: Callable[..., Any], asked: str, idempotency_key: str | None) -> Accepted:
        from api.auth import account_id

        held = stores()
        transaction = held.database.write()
        session = transaction.__enter__()
        if idempotency_key and (made := idempotency.job_of(session, account_id(), idempotency_key, asked)):
            job = jobs.get(session, account_id(), made)
            transaction.__exit__(None, None, None)
            return Accepted(job, replayed=True)
        job = make(session)
        if idempotency_key:
            idempotency.remember(session, idempotency_key, asked, job)
        session.flush()

        def commit() -> None:
            time.sleep(COMMIT_DELAY)
            transaction.__exit__(None, None, None)

        threading.Thread(target=commit).start()
        return Accepted(job, replayed=False)

    submissions.make_once = make_once


BUGS: dict[str, Callable[[], None]] = {
    "no_fencing": no_fencing,
    "ack_before_commit": ack_before_commit,
    "no_outbox": no_outbox,
}
