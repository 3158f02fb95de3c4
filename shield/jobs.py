"""Jobs: submitted, read, canceled. One transaction a submission: job, chunks, items and outbox rows, or nothing.

How a job's items are leased and recorded is shield.dispatch.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session, selectinload

from shield import outbox, turns
from shield.db import Database, new_id, now
from shield.errors import InvalidSubmission, NotFound
from shield.models import Chunk, Item, Job
from shield.states import ChunkState, ItemState, JobState, Verdict, sources

ITEM_ID = re.compile(r"itm_[0-9a-f]{27}_([0-9]{7})")
PAGE = 500  # items read at a time while results are streamed


@dataclass(frozen=True, slots=True)
class NewItem:
    """An image to scan, by one of: a stored blob (sha256), a URL (http, https, s3), an upload; and the client's name.

    That an upload is the account's own, and that it may read a place in S3, is for the caller to have checked.
    """

    blob: str | None = None
    url: str | None = None
    upload: str | None = None
    custom_id: str | None = None


def submit(session: Session, account_id: str, items: Sequence[NewItem], chunk_items: int, name: str = "") -> Job:
    """Make a job of these items; durable when the session's transaction commits.

    A job of one chunk takes the interactive lane: somebody is waiting. Raises InvalidSubmission without
    items.
    """
    if not items:
        raise InvalidSubmission("a job needs at least one item", "/items")
    job = Job(
        id=new_id("job"),
        account_id=account_id,
        name=name,
        state=JobState.QUEUED,
        lane="interactive" if len(items) <= chunk_items else "bulk",
        total=len(items),
        created_at=now(session),
    )
    session.add(job)
    session.flush()
    add_items(session, job, items, 0, chunk_items)
    return job


def add_items(session: Session, job: Job, items: Sequence[NewItem], first: int, chunk_items: int) -> None:
    """Write a job's items from the ordinal `first` on, in chunks that wait for their turn, and owe their messages.

    The job's total is the caller's to set.
    """
    turn = turns.next_of(session, job.account_id, job.lane)
    chunks = [
        {
            "id": f"chk_{job.id[4:]}_{first + start:07d}",
            "account_id": job.account_id,
            "job_id": job.id,
            "state": ChunkState.READY,
            "lane": job.lane,
            "turn": turn + start // chunk_items,
            "size": len(items[start : start + chunk_items]),
        }
        for start in range(0, len(items), chunk_items)
    ]
    session.execute(insert(Chunk), chunks)
    rows = [
        {
            "id": f"itm_{job.id[4:]}_{first + number:07d}",
            "account_id": job.account_id,
            "job_id": job.id,
            "chunk_id": chunks[number // chunk_items]["id"],
            "ordinal": first + number,
            "custom_id": item.custom_id,
            "source_blob": item.blob,
            "source_url": item.url,
            "source_upload": item.upload,
        }
        for number, item in enumerate(items)
    ]
    session.execute(insert(Item), rows)
    outbox.owe_scans(session, job, [(str(chunk["id"]), turn + n) for n, chunk in enumerate(chunks)])


def get(session: Session, account_id: str, job_id: str) -> Job:
    """A job of this account. Raises NotFound."""
    job = session.scalars(select(Job).where(Job.id == job_id, Job.account_id == account_id)).first()
    if job is None:
        raise NotFound(f"no job {job_id} in this account")
    return job


def newest(session: Session, account_id: str, limit: int, after: str | None = None) -> list[Job]:
    """Jobs of this account, newest first, from the one after `after` on."""
    query = select(Job).where(Job.account_id == account_id)
    if after is not None:
        query = query.where(Job.id < after)
    return list(session.scalars(query.order_by(Job.id.desc()).limit(limit)))


def items(
    session: Session,
    job: Job,
    limit: int,
    after: str | None = None,
    state: ItemState | None = None,
    verdict: Verdict | None = None,
) -> list[Item]:
    """Items of a job in the order of its submission, with faces and weights, from the one after `after` on."""
    query = select(Item).where(Item.job_id == job.id, Item.account_id == job.account_id)
    if after is not None:
        query = query.where(Item.ordinal > ordinal_of(after))
    if state is not None:
        query = query.where(Item.state == state)
    if verdict is not None:
        query = query.where(Item.verdict == verdict)
    query = query.options(selectinload(Item.faces), selectinload(Item.weights))
    return list(session.scalars(query.order_by(Item.ordinal).limit(limit)))


def item(session: Session, account_id: str, item_id: str) -> Item:
    """An item of this account, with faces and weights. Raises NotFound."""
    query = select(Item).where(Item.id == item_id, Item.account_id == account_id)
    found = session.scalars(query.options(selectinload(Item.faces), selectinload(Item.weights))).first()
    if found is None:
        raise NotFound(f"no item {item_id} in this account")
    return found


def results(database: Database, job: Job) -> Iterator[Item]:
    """Terminal items of a job in order, read page by page in short sessions; usable while the job runs."""
    after: int = -1
    while True:
        with database.read() as session:
            page = session.scalars(
                select(Item)
                .where(Item.job_id == job.id, Item.account_id == job.account_id, Item.ordinal > after)
                .where(Item.state.in_((ItemState.DONE, ItemState.FAILED, ItemState.CANCELED)))
                .options(selectinload(Item.faces), selectinload(Item.weights))
                .order_by(Item.ordinal)
                .limit(PAGE)
            ).all()
        if not page:
            return
        yield from page
        after = page[-1].ordinal


def ordinal_of(item_id: str) -> int:
    """The place of an item in its job, which its id ends with. Raises InvalidSubmission when this is no item's id."""
    found = ITEM_ID.fullmatch(item_id)
    if found is None:
        raise InvalidSubmission(f"{item_id!r} is not an item's id", "/after")
    return int(found[1])


def cancel(session: Session, account_id: str, job_id: str) -> Job:
    """Cancel what is not leased, at once; leased items finish, then the job ends. An ended job stays as it is.

    Raises NotFound.
    """
    job = get(session, account_id, job_id)
    # Chunks before items before the job: the order in which every transaction locks. A leased chunk's items are its
    # worker's until it records or loses them.
    free = session.scalars(
        update(Chunk)
        .where(Chunk.job_id == job.id, Chunk.state == ChunkState.READY)
        .values(state=ChunkState.DONE)
        .returning(Chunk.id)
    ).all()
    canceled = session.scalars(
        update(Item)
        .where(Item.job_id == job.id, Item.chunk_id.in_(free), Item.state == ItemState.PENDING)
        .values(state=ItemState.CANCELED, ended_at=now(session))
        .returning(Item.id)
    ).all()
    session.execute(
        update(Job).where(Job.id == job.id, Job.state.in_(sources(JobState.CANCELING))).values(state=JobState.CANCELING)
    )
    count(session, job.id, canceled=len(canceled))
    session.refresh(job)
    return job


def count(session: Session, job_id: str, **more: int) -> None:
    """Add to a job's counts, and end it when every item is terminal: the one place where a job ends."""
    added = {name: getattr(Job, name) + number for name, number in more.items() if number}
    if added:
        session.execute(update(Job).where(Job.id == job_id).values(added))
    session.execute(
        update(Job)
        .where(
            Job.id == job_id,
            Job.done + Job.failed + Job.canceled == Job.total,
            Job.state.in_(sources(JobState.ENDED)),
        )
        .values(state=JobState.ENDED, ended_at=now(session))
    )
