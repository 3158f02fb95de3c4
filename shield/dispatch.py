"""Dispatch: chunks are leased to workers, renewed, recorded, released, and swept when a worker dies.

Every function takes an open transaction. The lease token fences: a worker past its lease changes no row. Locks are
taken in one order (chunk, items, job), so that transactions wait for each other and never in a ring.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import Boolean, Column, ColumnElement, Select, Table, bindparam, case, or_, select, update
from sqlalchemy.orm import Session

from shield import cases, events, outbox, rows, turns
from shield.db import new_id, now
from shield.jobs import count
from shield.models import Case, Chunk, Face, Item, Job
from shield.outcomes import Failed, Outcome, Scanned, done_row, face_row, failed_row
from shield.queue import LANES
from shield.states import ChunkState, ItemState, JobState, Verdict, sources

SPLIT_AT = 2  # worker deaths on a chunk of several items
POISON_AT = 3  # worker deaths on a chunk of one


@dataclass(frozen=True, slots=True)
class LeasedItem:
    """An item that a worker holds: its id and its source."""

    id: str
    account_id: str
    blob: str | None
    url: str | None
    upload: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's timed hold on a chunk. `alone`: scan it without company."""

    chunk_id: str
    account_id: str
    lane: str
    token: str
    alone: bool
    items: tuple[LeasedItem, ...]


# What every chunk goes through is made once: building a statement takes longer than running it. Of tables, not of
# classes, for no row becomes an object.
CHUNK, ITEM, JOB, FACE, CASE = (cast("Table", entity.__table__) for entity in (Chunk, Item, Job, Face, Case))
STILL_LEASED = ITEM.c.state == ItemState.LEASED
THIS_CHUNK = CHUNK.c.id == bindparam("this_chunk")


def _may_become(state: Column[Any], target: ItemState | ChunkState | JobState) -> ColumnElement[bool]:
    return or_(*(state == source for source in sources(target)))


TAKE_CHUNK = (
    update(CHUNK)
    .where(THIS_CHUNK, _may_become(CHUNK.c.state, ChunkState.LEASED))
    .values(state=ChunkState.LEASED, lease_token=bindparam("token"), lease_until=bindparam("until"))
    .values(begun=~CHUNK.c.ahead)
    .returning(CHUNK.c.job_id, CHUNK.c.account_id, CHUNK.c.lane, CHUNK.c.alone)
)
SOURCES = (  # in the order of LeasedItem
    ITEM.c.id,
    ITEM.c.account_id,
    ITEM.c.source_blob,
    ITEM.c.source_url,
    ITEM.c.source_upload,
)
TAKE_ITEMS = (
    update(ITEM)
    .where(ITEM.c.chunk_id == bindparam("this_chunk"), _may_become(ITEM.c.state, ItemState.LEASED))
    .values(state=ItemState.LEASED)
    .returning(ITEM.c.ordinal, *SOURCES)
)
START_JOB = (  # one that expands goes on expanding
    update(JOB)
    .where(JOB.c.id == bindparam("this_job"), JOB.c.started_at.is_(None))
    .where(or_(_may_become(JOB.c.state, JobState.RUNNING), JOB.c.state == JobState.EXPANDING))
    .values(
        state=case((_may_become(JOB.c.state, JobState.RUNNING), JobState.RUNNING), else_=JOB.c.state),
        started_at=bindparam("moment"),
    )
)
ANY = select(CHUNK.c.id).where(CHUNK.c.state == ChunkState.READY, CHUNK.c.lane == bindparam("lane")).limit(1)
FIRST = (
    select(CHUNK.c.id)
    .where(CHUNK.c.state == ChunkState.READY, CHUNK.c.lane == bindparam("lane"), CHUNK.c.ahead == bindparam("ahead"))
    .order_by(CHUNK.c.turn, CHUNK.c.id)
    .limit(1)
)
FIRST_IN_COMPANY = FIRST.where(CHUNK.c.alone.is_(False))
FIRST_OF_OTHERS = FIRST.where(CHUNK.c.account_id.not_in(bindparam("not_of", expanding=True))).where(
    or_(CHUNK.c.alone.is_(False), bindparam("alone", type_=Boolean))
)
NEXT, NEXT_IN_COMPANY, NEXT_OF_OTHERS = (
    first.with_for_update(skip_locked=True) for first in (FIRST, FIRST_IN_COMPANY, FIRST_OF_OTHERS)
)
FORESEEN = FIRST_IN_COMPANY.add_columns(CHUNK.c.size).limit(bindparam("images"))
ITEMS_OF = (
    select(*SOURCES)
    .where(ITEM.c.chunk_id.in_(bindparam("these_chunks", expanding=True)))
    .where(_may_become(ITEM.c.state, ItemState.LEASED))
    .order_by(ITEM.c.chunk_id, ITEM.c.ordinal)
)
FENCE = (
    update(CHUNK)
    .where(THIS_CHUNK, CHUNK.c.lease_token == bindparam("token"), CHUNK.c.lease_until > bindparam("moment"))
    .values(lease_token=bindparam("token"))  # locks the row: the fence holds until the commit
    .returning(CHUNK.c.job_id)
)
LEASED = (ITEM.c.chunk_id == bindparam("this_chunk"), STILL_LEASED)
LEASED_ITEMS = select(ITEM.c.id, ITEM.c.account_id).where(*LEASED)
CLOSE_CHUNK = (
    update(CHUNK)
    .where(THIS_CHUNK, CHUNK.c.state == ChunkState.LEASED, ~select(ITEM.c.id).where(*LEASED).exists())
    .values(state=ChunkState.DONE, lease_token=None, lease_until=None)
)


def lease(session: Session, chunk_id: str, seconds: float) -> Lease | None:
    """Take this chunk if it is ready; None when somebody was first or it is done."""
    token, moment = new_id("lse"), now(session)
    hold = {"this_chunk": chunk_id, "token": token, "until": moment + timedelta(seconds=seconds)}
    chunk = session.execute(TAKE_CHUNK, hold).one_or_none()
    if chunk is None:
        return None
    taken = session.execute(TAKE_ITEMS, {"this_chunk": chunk_id})
    session.execute(START_JOB, {"this_job": chunk.job_id, "moment": moment})
    leased = tuple(LeasedItem(*row[1:]) for row in sorted(taken, key=lambda row: row.ordinal))
    return Lease(chunk_id, chunk.account_id, chunk.lane, token, chunk.alone, leased)


def foreseen(session: Session, lane: str, images: int) -> list[LeasedItem]:
    """What `lease_next` would take next of a lane, until there are so many images. Nothing is leased by it."""
    chunks: list[str] = []
    for chunk_id, size in session.execute(FORESEEN, {"lane": lane, "ahead": False, "images": images}):
        if images <= 0:
            break
        chunks.append(chunk_id)
        images -= size
    found = session.execute(ITEMS_OF, {"these_chunks": chunks})
    return [LeasedItem(*row) for row in found]


def waits(session: Session, lane: str) -> bool:
    """Whether anything of a lane is ready, whatever must be done with it."""
    return session.scalars(ANY, {"lane": lane}).first() is not None


def ready(session: Session, lane: str, company: bool = False) -> bool:
    """Whether `lease_next` would find one in this lane: to look waits for nobody, and to lease for those who write."""
    first = FIRST_IN_COMPANY if company else FIRST
    return session.scalars(first, {"lane": lane, "ahead": False}).first() is not None


def lease_next(session: Session, seconds: float, company: bool = False, lanes: Sequence[str] = LANES) -> Lease | None:
    """Take the next ready chunk that is not fetched ahead: interactive lane first, then by turn; None without one.

    With `company`, chunks that must be scanned alone are passed over.
    """
    return _lease_first(session, seconds, NEXT_IN_COMPANY if company else NEXT, {"ahead": False}, lanes)


def ready_ahead(session: Session, not_of: Collection[str] = (), company: bool = False) -> bool:
    """Whether `lease_ahead` would find one: a look, likewise."""
    bound = {"ahead": True, "not_of": list(not_of), "alone": not company}
    return any(session.scalars(FIRST_OF_OTHERS, {"lane": lane, **bound}).first() is not None for lane in LANES)


def lease_ahead(session: Session, seconds: float, not_of: Collection[str] = (), company: bool = False) -> Lease | None:
    """Take the next ready chunk that is to be fetched ahead and is not of these accounts, likewise.

    While it is only fetched, a worker's death is not its fault: `begin` says when its scan begins.
    """
    bound = {"ahead": True, "not_of": list(not_of), "alone": not company}
    return _lease_first(session, seconds, NEXT_OF_OTHERS, bound)


def _lease_first(
    session: Session, seconds: float, query: Select[Any], bound: dict[str, object], lanes: Sequence[str] = LANES
) -> Lease | None:
    for lane in lanes:
        found = session.scalars(query, {"lane": lane, **bound}).first()
        if found is not None:
            return lease(session, found, seconds)
    return None


def begin(session: Session, leases: Sequence[Lease]) -> set[str]:
    """Note that these chunks, which were fetched ahead, are being scanned; the ids of those that are still held."""
    held = _still_held(session, leases)
    session.execute(update(Chunk).where(Chunk.id.in_(held)).values(begun=True))
    return held


def renew(session: Session, leases: Sequence[Lease], seconds: float) -> set[str]:
    """Prolong these leases; the ids of the chunks that are still held."""
    held = _still_held(session, leases)
    until = now(session) + timedelta(seconds=seconds)
    session.execute(update(Chunk).where(Chunk.id.in_(held)).values(lease_until=until))
    return held


def _still_held(session: Session, leases: Sequence[Lease]) -> set[str]:
    """The ids of the chunks whose leases live, their rows locked; by rising id, so that no two callers form a ring."""
    tokens = [held.token for held in leases]
    return set(
        session.scalars(
            select(Chunk.id)
            .where(Chunk.lease_token.in_(tokens), Chunk.state == ChunkState.LEASED, Chunk.lease_until > now(session))
            .order_by(Chunk.id)
            .with_for_update()
        )
    )


def record(session: Session, held: Lease, outcomes: Sequence[Outcome]) -> int:
    """Write what became of items of a lease; how many rows moved. 0, and nothing written, when the lease is lost.

    The chunk is done when none of its items is leased any more, and the job ends with its last item.
    """
    moment = now(session)
    fence = {"this_chunk": held.chunk_id, "token": held.token, "moment": moment}
    job_id = session.scalars(FENCE, fence).one_or_none()
    if job_id is None:
        return 0
    counts = _write(session, held.chunk_id, job_id, outcomes, moment)
    _close_chunk(session, held.chunk_id)
    count(session, job_id, **counts)
    return counts["done"] + counts["failed"]


def _write(session: Session, chunk_id: str, job_id: str, outcomes: Sequence[Outcome], moment: datetime) -> Counter[str]:
    """Write outcomes of a chunk whose row is locked; what to add to the job's counts. Items that moved before do not.

    Two statements, one for the faces and one for the cases that are opened, however many items.
    """
    account_of = {row.id: row.account_id for row in session.execute(LEASED_ITEMS, {"this_chunk": chunk_id})}
    moving = [outcome for outcome in outcomes if outcome.item_id in account_of]
    scanned = [outcome for outcome in moving if isinstance(outcome, Scanned)]
    failed = [outcome for outcome in moving if isinstance(outcome, Failed)]
    rows.change(session, ITEM, [done_row(outcome, moment) for outcome in scanned], STILL_LEASED)
    rows.change(session, ITEM, [failed_row(outcome, moment) for outcome in failed], STILL_LEASED)
    faces = [face_row(o.item_id, account_of[o.item_id], n, f) for o in scanned for n, f in enumerate(o.faces)]
    rows.add(session, FACE, faces)
    opened = [cases.opened(outcome, account_of[outcome.item_id], job_id, moment) for outcome in scanned]
    rows.add(session, CASE, [case for case in opened if case is not None])
    flagged = [outcome for outcome in scanned if outcome.judgement.verdict in (Verdict.FAKE, Verdict.SUSPECT)]
    if flagged or failed:
        account_id = account_of[(flagged or failed)[0].item_id]
        events.items_ended(session, account_id, [o.item_id for o in flagged], [o.item_id for o in failed])
    return Counter(done=len(scanned), failed=len(failed), **Counter(str(o.judgement.verdict) for o in scanned))


def _close_chunk(session: Session, chunk_id: str) -> None:
    session.execute(CLOSE_CHUNK, {"this_chunk": chunk_id})


def release(session: Session, held: Lease) -> None:
    """Give a chunk back unscanned, without blame, for a worker that stops cleanly. A lost lease changes nothing."""
    chunk = session.scalars(
        select(Chunk)
        .where(Chunk.id == held.chunk_id, Chunk.lease_token == held.token, Chunk.state == ChunkState.LEASED)
        .with_for_update()
    ).one_or_none()
    if chunk is not None:
        _give_back(session, chunk)


def sweep(session: Session, limit: int = 100) -> int:
    """Return the chunks whose lease ran out; how many.

    Where its scan had begun, that counts as a worker's death: the second splits a chunk into singles, which are scanned
    alone; the third on a single fails its item as `poison`.
    """
    expired = session.scalars(
        select(Chunk)
        .where(Chunk.state == ChunkState.LEASED, Chunk.lease_until <= now(session))
        .order_by(Chunk.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for chunk in expired:
        if not chunk.begun:
            _give_back(session, chunk)
            continue
        chunk.deaths += 1
        chunk.alone = True
        if chunk.size == 1 and chunk.deaths >= POISON_AT:
            _fail_as_poison(session, chunk)
        elif chunk.size > 1 and chunk.deaths >= SPLIT_AT:
            _split(session, chunk)
        else:
            _give_back(session, chunk)
    return len(expired)


def _give_back(session: Session, chunk: Chunk) -> None:
    """Chunk and items wait again; in a canceled job they end instead."""
    if _free_items(session, chunk):
        chunk.turn = turns.served_now(session, chunk.lane, chunk.ahead)
        _unlease(session, chunk, ChunkState.READY)
        outbox.owe_again(session, session.get_one(Job, chunk.job_id), chunk.id, chunk.turn)
    else:
        _unlease(session, chunk, ChunkState.DONE)


def _split(session: Session, chunk: Chunk) -> None:
    """Put each remaining item into a chunk of its own, to be scanned alone; in a canceled job they end instead.

    They take turns with all others, the first of them now: together they would hold up what is given back meanwhile.
    """
    remaining = _free_items(session, chunk)
    _unlease(session, chunk, ChunkState.SPLIT)
    if not remaining:
        return
    turn = turns.served_now(session, chunk.lane, chunk.ahead)
    singles = [
        Chunk(
            id=f"{chunk.id}_{number:07d}",
            account_id=chunk.account_id,
            job_id=chunk.job_id,
            state=ChunkState.READY,
            lane=chunk.lane,
            turn=turn + number,
            size=1,
            ahead=chunk.ahead,
            alone=True,
        )
        for number in range(len(remaining))
    ]
    session.add_all(singles)
    session.flush()
    for item_id, single in zip(remaining, singles, strict=True):
        session.execute(update(Item).where(Item.id == item_id).values(chunk_id=single.id))
    outbox.owe_scans(session, session.get_one(Job, chunk.job_id), [(single.id, single.turn) for single in singles])


def _free_items(session: Session, chunk: Chunk) -> list[str]:
    """Leased items wait again, and their ids are returned in order; in a canceled job they end, and none waits."""
    job = session.get_one(Job, chunk.job_id)
    leased = update(Item).where(Item.chunk_id == chunk.id, Item.state == ItemState.LEASED)
    if job.state != JobState.CANCELING:
        return sorted(session.scalars(leased.values(state=ItemState.PENDING).returning(Item.id)))
    ended = leased.values(state=ItemState.CANCELED, ended_at=now(session)).returning(Item.id)
    count(session, job.id, canceled=len(session.scalars(ended).all()))
    return []


def _unlease(session: Session, chunk: Chunk, state: ChunkState) -> None:
    chunk.state, chunk.lease_token, chunk.lease_until = state, None, None
    session.flush()


def _fail_as_poison(session: Session, chunk: Chunk) -> None:
    detail = f"{chunk.deaths} workers died while they scanned this image; it will not be tried again"
    item_ids = session.scalars(select(Item.id).where(Item.chunk_id == chunk.id, Item.state == ItemState.LEASED)).all()
    failed = [Failed(item_id, "poison", detail) for item_id in item_ids]
    counts = _write(session, chunk.id, chunk.job_id, failed, now(session))
    _unlease(session, chunk, ChunkState.DONE)
    count(session, chunk.job_id, **counts)
