"""Jobs: submitted, read, canceled, retried. A submission is one transaction: all of its rows, or none.

How a job's items are leased and recorded is shield.dispatch; how a job is deleted or expires, shield.retention.
"""

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Select, Table, bindparam, func, literal_column, select, update
from sqlalchemy.orm import Session

from shield import events, outbox, rows, turns
from shield.db import Database, new_id, now
from shield.errors import BacklogFull, InvalidSubmission, JobRunning, NotFound, NothingToRetry
from shield.models import WHOLE_ITEM, Chunk, Item, Job
from shield.states import ITEM_TERMINAL, ChunkState, ItemState, JobState, Verdict, sources

ITEM_ID = re.compile(r"itm_([0-9a-f]{27})_([0-9]{7})")
PAGE = 500  # items read at a time while results are streamed, or copied into a retry
CANCELED_AT_ONCE = 2_000  # items that a request to cancel ends itself, in about 50 ms; the house ends the rest
CANCELING_JOBS = 1_000  # looked at in one turn of the house

JOB, CHUNK, ITEM = (cast("Table", entity.__table__) for entity in (Job, Chunk, Item))
COUNTS = ("done", "failed", "canceled", *Verdict)
ADD = (
    update(JOB)
    .where(JOB.c.id == bindparam("this_job"))
    .values({name: JOB.c[name] + bindparam(f"more_{name}") for name in COUNTS})
    .returning(JOB.c.total - JOB.c.done - JOB.c.failed - JOB.c.canceled)
)
END = (
    update(JOB)
    .where(JOB.c.id == bindparam("this_job"), JOB.c.done + JOB.c.failed + JOB.c.canceled == JOB.c.total)
    .where(JOB.c.state.in_(sources(JobState.ENDED)))
    .values(state=JobState.ENDED, ended_at=bindparam("moment"))
    .returning(JOB.c.id)
)
STATE = select(JOB.c.state).where(JOB.c.id == bindparam("this_job")).with_for_update()


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
    job = _new_job(session, account_id, name, len(items), chunk_items)
    add_items(session, job, items, 0, chunk_items)
    return job


def _new_job(
    session: Session, account_id: str, name: str, total: int, chunk_items: int, retry_of: str | None = None
) -> Job:
    job = Job(
        id=new_id("job"),
        account_id=account_id,
        name=name,
        state=JobState.QUEUED,
        lane="interactive" if total <= chunk_items else "bulk",
        retry_of=retry_of,
        total=total,
        created_at=now(session),
    )
    session.add(job)
    session.flush()
    return job


def retry(session: Session, account_id: str, job_id: str, chunk_items: int) -> Job:
    """Make a new job of the items of an ended job that failed: from the same sources, under the same custom ids.

    Read page by page and written in the session's one transaction. Raises NotFound, JobRunning, NothingToRetry.
    """
    old = get(session, account_id, job_id)
    if old.state != JobState.ENDED:
        raise JobRunning(f"{job_id} has not ended: wait, or cancel it first; then its failed items can be retried")
    if not old.failed:
        raise NothingToRetry(f"no item of {job_id} failed")
    job = _new_job(session, account_id, old.name, old.failed, chunk_items, retry_of=old.id)
    page = select(Item.ordinal, Item.source_blob, Item.source_url, Item.source_upload, Item.custom_id)
    page = page.where(Item.job_id == old.id, Item.account_id == account_id, Item.state == ItemState.FAILED)
    size = max(PAGE // chunk_items, 1) * chunk_items  # whole chunks
    first, after = 0, -1
    while found := session.execute(page.where(Item.ordinal > after).order_by(Item.ordinal).limit(size)).all():
        copies = [NewItem(row.source_blob, row.source_url, row.source_upload, row.custom_id) for row in found]
        add_items(session, job, copies, first, chunk_items)
        first, after = first + len(found), found[-1].ordinal
    return job


def check_backlog(session: Session, account_id: str, most: int) -> None:
    """Raises BacklogFull when more than `most` items wait, and more of this account's than its fair part of `most`."""
    own = beyond_backlog(session, most).get(account_id)
    if own is not None:
        raise BacklogFull(
            f"more items wait than the limit of {most}, and {own} of them are this account's: nothing was accepted,"
            " try again later"
        )


def beyond_backlog(session: Session, most: int) -> dict[str, int]:
    """When more than `most` items wait: the accounts that have more than their fair part of `most`, and how many.

    An account's fair part is that of the accounts that wait: so nobody is locked out by the jobs of another.
    """
    # The state is written out, not bound: only so can a database see that the index of live jobs serves.
    live = Job.state != literal_column("'ended'")
    pending = func.coalesce(func.sum(Job.total - Job.done - Job.failed - Job.canceled), 0)
    if (session.scalar(select(pending).where(live)) or 0) <= most:
        return {}
    # By an expression, so that no index of every job there ever was is read for the order of its accounts.
    account = func.coalesce(Job.account_id, literal_column("''"))
    found = session.execute(select(account, pending).where(live).group_by(account))
    waiting = {str(holder): int(items) for holder, items in found if items}
    return {holder: items for holder, items in waiting.items() if items * len(waiting) > most}


def add_items(session: Session, job: Job, items: Sequence[NewItem], first: int, chunk_items: int) -> None:
    """Write a job's items from the ordinal `first` on, in chunks that wait for their turn, and owe their messages.

    The job's total is the caller's to set.
    """
    turn = {ahead: turns.next_of(session, job.account_id, job.lane, ahead) for ahead in (False, True)}
    chunks: list[rows.Row] = []
    owed: list[tuple[str, int]] = []
    for start in range(0, len(items), chunk_items):
        some = items[start : start + chunk_items]
        ahead = any(item.url is not None for item in some)
        owed.append((f"chk_{job.id[4:]}_{first + start:07d}", turn[ahead]))
        chunks.append(
            {
                "id": owed[-1][0],
                "account_id": job.account_id,
                "job_id": job.id,
                "state": ChunkState.READY,
                "lane": job.lane,
                "turn": turn[ahead],
                "size": len(some),
                "ahead": ahead,
            }
        )
        turn[ahead] += 1
    rows.add(session, CHUNK, chunks)
    new = [
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
    rows.add(session, ITEM, new)
    outbox.owe_scans(session, job, owed)


def get(session: Session, account_id: str, job_id: str) -> Job:
    """A job of this account. Raises NotFound, also for a job that was deleted or has expired."""
    query = select(Job).where(Job.id == job_id, Job.account_id == account_id, Job.deleted_at.is_(None))
    # As it is now, also where this session has seen it before: its counts are changed behind the session's back.
    job = session.scalars(query, execution_options={"populate_existing": True}).first()
    if job is None:
        raise NotFound(f"no job {job_id} in this account")
    return job


def newest(session: Session, account_id: str, limit: int, after: str | None = None) -> list[Job]:
    """Jobs of this account, newest first, from the one after `after` on."""
    query = select(Job).where(Job.account_id == account_id, Job.deleted_at.is_(None))
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
    """Items of a job in the order of its submission, with faces and weights, from the one after `after` on.

    Raises InvalidSubmission where `after` is no id of an item of this job.
    """
    query = narrowed(job, state, verdict)
    if after is not None:
        query = query.where(Item.ordinal > check_after(job, after))
    return list(session.scalars(query.order_by(Item.ordinal).limit(limit)))


def narrowed(job: Job, state: ItemState | None = None, verdict: Verdict | None = None) -> Select[Item]:
    """The items of a job, with faces and weights: all of them, or those of a state or a verdict."""
    query = select(Item).where(Item.job_id == job.id, Item.account_id == job.account_id)
    if state is not None:
        query = query.where(Item.state == state)
    if verdict is not None:
        query = query.where(Item.verdict == verdict)
    return query.options(*WHOLE_ITEM)


def item(session: Session, account_id: str, item_id: str) -> Item:
    """An item of this account, whole. Raises NotFound, also where its job is deleted."""
    query = select(Item).join(Job, Job.id == Item.job_id).where(Item.id == item_id, Item.account_id == account_id)
    query = query.where(Job.deleted_at.is_(None)).options(*WHOLE_ITEM)
    found = session.scalars(query).first()
    if found is None:
        raise NotFound(f"no item {item_id} in this account")
    return found


def results(database: Database, job: Job) -> Iterator[Item]:
    """Terminal items of a job in order, read page by page in short sessions; usable while the job runs."""
    # A stream for each state, so that no page has to pass over the items that wait.
    return heapq.merge(*(_in_state(database, job, state) for state in ITEM_TERMINAL), key=lambda item: item.ordinal)


def _in_state(database: Database, job: Job, state: ItemState) -> Iterator[Item]:
    after: str | None = None
    while True:
        with database.read() as session:
            page = items(session, job, PAGE, after, state)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].id


def check_after(job: Job, after: str) -> int:
    """The ordinal of the item that ends a page. Raises InvalidSubmission where this is no id of an item of the job."""
    found = ITEM_ID.fullmatch(after)
    if found is None or found[1] != job.id[4:]:
        raise InvalidSubmission(f"{after!r} is no item of {job.id}: give the last_id of its page before", "/after")
    return int(found[2])


def cancel(database: Database, account_id: str, job_id: str) -> Job:
    """Cancel what is not leased, at once; leased items finish, then the job ends. An ended job stays as it is.

    No more than CANCELED_AT_ONCE items are ended here, however many wait: the others can no longer be leased, and the
    house ends them. Raises NotFound.
    """
    # First the job alone, in a transaction of its own. Every step of an expansion begins by moving this row, so none
    # adds a chunk from here on; what is leased meanwhile finishes. Only then its chunks, its items and the job again:
    # that is the order in which every transaction locks. A process that dies in between leaves the rest to the house.
    with database.write() as session:
        job = get(session, account_id, job_id)
        states = sources(JobState.CANCELING)
        session.execute(update(Job).where(Job.id == job.id, Job.state.in_(states)).values(state=JobState.CANCELING))
        session.refresh(job)
    if job.state == JobState.ENDED:
        return job
    with database.write() as session:
        close_ready(session, job_id)
        cancel_waiting(session, job_id, CANCELED_AT_ONCE)
        return get(session, account_id, job_id)


def canceling(session: Session) -> list[str]:
    """The ids of jobs that are being canceled, oldest first."""
    query = select(Job.id).where(Job.state == literal_column("'canceling'"), Job.state != literal_column("'ended'"))
    return list(session.scalars(query.order_by(Job.id).limit(CANCELING_JOBS)))


def close_ready(session: Session, job_id: str) -> None:
    """Let no worker lease a chunk of a canceling job any more, and send no message about it: two statements.

    A chunk that is locked is being leased or given back by somebody else: it is passed over, and closed by the house if
    it is ready afterwards. So this waits for nobody, and nobody in a ring.
    """
    ready = select(Chunk.id).where(Chunk.job_id == job_id, Chunk.state == ChunkState.READY)
    found = ready.order_by(Chunk.id).with_for_update(skip_locked=True).cte()
    session.execute(
        update(Chunk).where(Chunk.id.in_(select(found.c.id))).values(state=ChunkState.DONE),
        execution_options={"synchronize_session": False},
    )
    outbox.strike(session, job_id)


def cancel_waiting(session: Session, job_id: str, limit: int) -> int:
    """End items of a canceling job that wait, up to `limit`; how many. With the last one the job ends.

    An item is pending if and only if its chunk is ready, or is done in a canceling job: only the latter end here, for a
    ready chunk may still be leased.
    """
    waiting = select(Item.id).join(Chunk, Chunk.id == Item.chunk_id)
    waiting = waiting.where(Item.job_id == job_id, Item.state == ItemState.PENDING, Chunk.state == ChunkState.DONE)
    # A common table expression, as wherever rows are locked to be changed: PostgreSQL evaluates it once, but a subquery
    # perhaps once a row, and then every time with the next rows that nobody has locked.
    found = waiting.order_by(Item.ordinal).limit(limit).with_for_update(skip_locked=True, of=Item).cte()
    ended = session.scalars(
        update(Item)
        .where(Item.id.in_(select(found.c.id)), Item.state == ItemState.PENDING)
        .values(state=ItemState.CANCELED, ended_at=now(session))
        .returning(Item.id),
        execution_options={"synchronize_session": False},
    ).all()
    count(session, job_id, canceled=len(ended))
    return len(ended)


def count(session: Session, job_id: str, **more: int) -> None:
    """Add to a job's counts, and end it when every item is terminal: the one place where a job ends."""
    added = {f"more_{name}": more.get(name, 0) for name in COUNTS}
    if any(added.values()):
        left = session.scalars(ADD, {"this_job": job_id, **added}).one_or_none()
        _read_anew(session, job_id)
        if left:
            return
    was = session.scalars(STATE, {"this_job": job_id}).one()
    if session.scalars(END, {"this_job": job_id, "moment": now(session)}).one_or_none():
        _read_anew(session, job_id)
        events.job_ended(session, job_id, canceled=was == JobState.CANCELING)


def _read_anew(session: Session, job_id: str) -> None:
    """Read a job again that this session has read before."""
    seen = session.identity_map.get(session.identity_key(Job, job_id))
    if seen is not None:
        session.refresh(seen)
