"""Dispatch: chunks are leased to workers, renewed, recorded, released, and swept when a worker dies.

Every function takes an open transaction. The lease token fences: a worker past its lease changes no row. Locks are
taken in one order (chunk, items, job), so that transactions wait for each other and never in a ring.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from shield import outbox, turns
from shield.db import new_id, now
from shield.jobs import count
from shield.models import Chunk, Face, Item, Job
from shield.policy import FaceFacts, Judgement
from shield.queue import LANES
from shield.states import ChunkState, ItemState, JobState, sources

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
    token: str
    alone: bool
    items: tuple[LeasedItem, ...]


@dataclass(frozen=True, slots=True)
class Scanned:
    """An item that was scanned and judged."""

    item_id: str
    judgement: Judgement
    faces: tuple[FaceFacts, ...]
    width: int
    height: int
    format: str
    sha256: str
    view_blob: str | None
    weights_sha256: str
    policy_version: str
    from_cache: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that cannot be scanned: a stable code, and a sentence."""

    item_id: str
    code: str
    detail: str


Outcome = Scanned | Failed


def lease(session: Session, chunk_id: str, seconds: float) -> Lease | None:
    """Take this chunk if it is ready; None when somebody was first or it is done."""
    token = new_id("lse")
    moment = now(session)
    chunk = session.execute(
        update(Chunk)
        .where(Chunk.id == chunk_id, Chunk.state.in_(sources(ChunkState.LEASED)))
        .values(state=ChunkState.LEASED, lease_token=token, lease_until=moment + timedelta(seconds=seconds))
        .returning(Chunk.job_id, Chunk.alone)
    ).one_or_none()
    if chunk is None:
        return None
    rows = session.execute(
        update(Item)
        .where(Item.chunk_id == chunk_id, Item.state.in_(sources(ItemState.LEASED)))
        .values(state=ItemState.LEASED)
        .returning(Item.ordinal, Item.id, Item.account_id, Item.source_blob, Item.source_url, Item.source_upload)
    ).all()
    session.execute(
        update(Job)
        .where(Job.id == chunk.job_id, Job.state.in_(sources(JobState.RUNNING)))
        .values(state=JobState.RUNNING, started_at=moment)
    )
    session.execute(
        update(Job)
        .where(Job.id == chunk.job_id, Job.state == JobState.EXPANDING, Job.started_at.is_(None))
        .values(started_at=moment)
    )
    leased = tuple(
        LeasedItem(row.id, row.account_id, row.source_blob, row.source_url, row.source_upload)
        for row in sorted(rows, key=lambda row: row.ordinal)
    )
    return Lease(chunk_id, token, chunk.alone, leased)


def lease_next(session: Session, seconds: float, company: bool) -> Lease | None:
    """Take the next ready chunk: interactive lane first, then by turn; None when there is none.

    With `company`, chunks that must be scanned alone are passed over.
    """
    for lane in LANES:
        query = select(Chunk.id).where(Chunk.state == ChunkState.READY, Chunk.lane == lane)
        if company:
            query = query.where(Chunk.alone.is_(False))
        found = session.scalars(query.order_by(Chunk.turn, Chunk.id).limit(1).with_for_update(skip_locked=True)).first()
        if found is not None:
            return lease(session, found, seconds)
    return None


def renew(session: Session, leases: Sequence[Lease], seconds: float) -> set[str]:
    """Prolong these leases; the ids of the chunks that are still held."""
    moment = now(session)
    tokens = [held.token for held in leases]
    return set(
        session.scalars(
            update(Chunk)
            .where(Chunk.lease_token.in_(tokens), Chunk.state == ChunkState.LEASED, Chunk.lease_until > moment)
            .values(lease_until=moment + timedelta(seconds=seconds))
            .returning(Chunk.id)
        )
    )


def record(session: Session, held: Lease, outcomes: Sequence[Outcome]) -> int:
    """Write what became of items of a lease; how many rows moved. 0, and nothing written, when the lease is lost.

    The chunk is done when none of its items is leased any more, and the job ends with its last item.
    """
    moment = now(session)
    job_id = session.scalars(
        update(Chunk)
        .where(Chunk.id == held.chunk_id, Chunk.lease_token == held.token, Chunk.lease_until > moment)
        .values(lease_token=held.token)  # locks the row: the fence holds until the commit
        .returning(Chunk.job_id)
    ).one_or_none()
    if job_id is None:
        return 0
    counts = _write(session, held.chunk_id, outcomes)
    _close_chunk(session, held.chunk_id)
    count(session, job_id, **counts)
    return counts["done"] + counts["failed"]


def _write(session: Session, chunk_id: str, outcomes: Sequence[Outcome]) -> Counter[str]:
    """Write outcomes of a chunk whose row is locked; what to add to the job's counts. Items that moved before do not.

    Two statements and one for the faces, however many items.
    """
    leased = select(Item.id, Item.account_id).where(Item.chunk_id == chunk_id, Item.state == ItemState.LEASED)
    account_of: dict[str, str] = {row.id: row.account_id for row in session.execute(leased)}
    moving = [outcome for outcome in outcomes if outcome.item_id in account_of]
    moment = now(session)
    scanned = [outcome for outcome in moving if isinstance(outcome, Scanned)]
    for target, rows in (
        (ItemState.DONE, [_done_row(outcome) for outcome in scanned]),
        (ItemState.FAILED, [_failed_row(outcome) for outcome in moving if isinstance(outcome, Failed)]),
    ):
        if rows:
            moves = [{"b_id": row.pop("id"), **row, "state": target, "ended_at": moment} for row in rows]
            names = [name for name in moves[0] if name != "b_id"]
            session.connection().execute(
                update(Item.__table__)  # type: ignore[arg-type]
                .where(Item.id == bindparam("b_id"), Item.state == ItemState.LEASED)
                .values({name: bindparam(name) for name in names}),
                moves,
            )
    faces = [_face_row(o.item_id, account_of[o.item_id], n, f) for o in scanned for n, f in enumerate(o.faces)]
    if faces:
        session.execute(insert(Face), faces)
    return Counter(
        done=len(scanned), failed=len(moving) - len(scanned), **Counter(str(o.judgement.verdict) for o in scanned)
    )


def _done_row(outcome: Scanned) -> dict[str, object]:
    return {
        "id": outcome.item_id,
        "verdict": outcome.judgement.verdict,
        "reasons": list(outcome.judgement.reasons),
        "score": outcome.judgement.score,
        "image_width": outcome.width,
        "image_height": outcome.height,
        "image_format": outcome.format,
        "image_sha256": outcome.sha256,
        "view_blob": outcome.view_blob,
        "weights_sha256": outcome.weights_sha256,
        "policy_version": outcome.policy_version,
        "from_cache": outcome.from_cache,
    }


def _failed_row(outcome: Failed) -> dict[str, object]:
    return {"id": outcome.item_id, "error_code": outcome.code, "error_detail": outcome.detail[:1000]}


def _face_row(item_id: str, account_id: str, ordinal: int, face: FaceFacts) -> dict[str, object]:
    return {
        "item_id": item_id,
        "ordinal": ordinal,
        "account_id": account_id,
        "left": face.left,
        "top": face.top,
        "width": face.width,
        "height": face.height,
        "detection_score": face.detection_score,
        "score": face.score,
        "landmarks": [list(point) for point in face.landmarks],
    }


def _close_chunk(session: Session, chunk_id: str) -> None:
    still_leased = select(Item.id).where(Item.chunk_id == chunk_id, Item.state == ItemState.LEASED).exists()
    session.execute(
        update(Chunk)
        .where(Chunk.id == chunk_id, Chunk.state == ChunkState.LEASED, ~still_leased)
        .values(state=ChunkState.DONE, lease_token=None, lease_until=None)
    )


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

    Each counts as a worker's death: the second splits a chunk into singles, which are scanned alone; the third on a
    single fails its item as `poison`.
    """
    expired = session.scalars(
        select(Chunk)
        .where(Chunk.state == ChunkState.LEASED, Chunk.lease_until <= now(session))
        .order_by(Chunk.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for chunk in expired:
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
        chunk.turn = turns.served_now(session, chunk.lane)
        _unlease(session, chunk, ChunkState.READY)
        outbox.owe_scans(session, session.get_one(Job, chunk.job_id), [(chunk.id, chunk.turn)])
    else:
        _unlease(session, chunk, ChunkState.DONE)


def _split(session: Session, chunk: Chunk) -> None:
    """Put each remaining item into a chunk of its own, to be scanned alone; in a canceled job they end instead."""
    remaining = _free_items(session, chunk)
    _unlease(session, chunk, ChunkState.SPLIT)
    if not remaining:
        return
    turn = turns.served_now(session, chunk.lane)
    singles = [
        Chunk(
            id=f"{chunk.id}_{number:07d}",
            account_id=chunk.account_id,
            job_id=chunk.job_id,
            state=ChunkState.READY,
            lane=chunk.lane,
            turn=turn,
            size=1,
            alone=True,
        )
        for number in range(len(remaining))
    ]
    session.add_all(singles)
    session.flush()
    for item_id, single in zip(remaining, singles, strict=True):
        session.execute(update(Item).where(Item.id == item_id).values(chunk_id=single.id))
    outbox.owe_scans(session, session.get_one(Job, chunk.job_id), [(single.id, turn) for single in singles])


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
    counts = _write(session, chunk.id, [Failed(item_id, "poison", detail) for item_id in item_ids])
    _unlease(session, chunk, ChunkState.DONE)
    count(session, chunk.job_id, **counts)
