"""Explanations: why the faces of an item score as they do. Asked for once an item, made by a worker, and kept.

SQL is the truth: the message that says one was asked for may be lost, and a worker finds it all the same. Whoever takes
one holds it for a while; if it dies, the next one takes it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, Select, func, literal_column, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from shield import jobs
from shield.db import now
from shield.errors import NotFound, NothingToExplain, RateLimited
from shield.models import ExplainedFace, Explanation, Face, Item, Job
from shield.states import ExplanationState, ItemState, Picture, sources

EXPLAIN = "worker.explain"
DEATHS = 3  # workers that may die of one: then it fails
WAITING = 100  # that one account may have asked for and not have got: the others wait behind them
FACES = 8  # of an item that are explained, of the highest scores: so a scan never waits long
RETRY_SECONDS = 10.0

# Written out, not bound: only so can a database see that the indexes of pending ones serve.
PENDING = Explanation.state == literal_column("'pending'")


@dataclass(frozen=True, slots=True)
class HeldFace:
    """A face to be explained: its ordinal in its item, and its box in pixels of the upright image."""

    ordinal: int
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Held:
    """An explanation that a worker makes, by its number of tries: where pictures of the item are, and the faces in it.

    The original, if it was stored here (`blob`, `upload`) and still has this sha256; else the view. Boxes count in
    pixels of the original, which is `image_width` pixels wide.
    """

    item_id: str
    account_id: str
    tries: int
    blob: str | None
    upload: str | None
    image_sha256: str
    image_width: int
    view_blob: str | None
    faces: tuple[HeldFace, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """A face explained; see shield.models.ExplainedFace."""

    ordinal: int
    left: float
    top: float
    side: float
    score: float
    stability: tuple[tuple[str, float], ...]
    crop_blob: str
    heatmap_blob: str


def ask(session: Session, account_id: str, item_id: str) -> Explanation:
    """Ask why an item's faces score as they do; to ask again changes nothing, and gives what there is.

    Raises NotFound, NothingToExplain where no face has a score, and RateLimited while too many are waited for.
    """
    item = jobs.item(session, account_id, item_id)
    if item.state != ItemState.DONE or not item.faces:
        raise NothingToExplain(f"no face of {item_id} has a score: there is nothing to explain")
    explanation = _of(account_id, item_id)
    found = session.scalars(explanation).first()
    if found is not None:
        return found
    waiting = select(func.count()).where(Explanation.account_id == account_id, PENDING)
    if session.scalars(waiting).one() >= WAITING:
        raise RateLimited(f"{WAITING} explanations are being waited for: ask again when some are made", RETRY_SECONDS)
    try:
        with session.begin_nested():
            session.add(Explanation(item_id=item_id, account_id=account_id, asked_at=now(session)))
    except IntegrityError:
        pass  # somebody else asked first
    return session.scalars(explanation).one()


def of(session: Session, account_id: str, item_id: str) -> Explanation | None:
    """What was asked about an item, with its faces; None where nobody asked. Raises NotFound for an unknown item."""
    jobs.item(session, account_id, item_id)
    return session.scalars(_of(account_id, item_id)).first()


def face(session: Session, account_id: str, item_id: str, ordinal: int) -> ExplainedFace:
    """A face of an item, explained. Raises NotFound, also where it is not explained yet."""
    found = of(session, account_id, item_id)
    for explained in found.faces if found else ():
        if explained.ordinal == ordinal:
            return explained
    raise NotFound(f"face {ordinal} of {item_id} is not explained: ask for it first")


def wanted(session: Session) -> bool:
    """Whether there is one to take: to look costs the others nothing, where to take one waits for who writes."""
    return session.scalars(select(Explanation.item_id).where(PENDING, _free(session)).limit(1)).first() is not None


def take(session: Session, seconds: float) -> Held | None:
    """Take the explanation that was asked for first, and hold it for so long; None when nobody waits for one.

    One that as many workers as DEATHS have died of fails, as `poison`; one of a deleted job, as `image_gone`: what was
    deleted is not looked at any more.
    """
    moment = now(session)
    query = (
        select(Explanation)
        .where(PENDING, _free(session))
        .order_by(Explanation.asked_at, Explanation.item_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    while (found := session.scalars(query).first()) is not None:
        gone = _is_deleted(session, found.item_id)
        if found.tries < DEATHS and not gone:
            found.tries += 1
            found.held_until = moment + timedelta(seconds=seconds)
            session.flush()
            return _held(session, found)
        found.state, found.reason = ExplanationState.FAILED, "image_gone" if gone else "poison"
        found.ended_at = moment
        session.flush()
    return None


def _is_deleted(session: Session, item_id: str) -> bool:
    query = select(Job.deleted_at).join(Item, Item.job_id == Job.id).where(Item.id == item_id)
    return session.scalars(query).one() is not None


def give_back(session: Session, held: Held) -> bool:
    """Let another worker take it, without blame; whether it was still held."""
    return _move(session, held, tries=held.tries - 1, held_until=None)


def fail(session: Session, held: Held, reason: str) -> bool:
    """It cannot be made, for this reason; whether it was still held."""
    return _end(session, held, ExplanationState.FAILED, reason=reason)


def record(session: Session, held: Held, picture: Picture, weights_sha256: str, faces: Sequence[Explained]) -> bool:
    """Write what was found; whether it was still held: if not, nothing is written."""
    ended = _end(session, held, ExplanationState.READY, picture=picture, weights_sha256=weights_sha256)
    if ended:
        owner = {"item_id": held.item_id, "account_id": held.account_id}
        session.add_all(ExplainedFace(**owner, **asdict(one)) for one in faces)
    return ended


def _end(session: Session, held: Held, state: ExplanationState, **values: object) -> bool:
    return _move(session, held, sources(state), state=state, ended_at=now(session), held_until=None, **values)


def _move(
    session: Session, held: Held, states: Sequence[StrEnum] = (ExplanationState.PENDING,), **values: object
) -> bool:
    """Change the row of an explanation while it is held by this very try; whether it was."""
    moved = (
        update(Explanation)
        .where(Explanation.item_id == held.item_id, Explanation.account_id == held.account_id)
        .where(Explanation.tries == held.tries, Explanation.held_until.is_not(None), Explanation.state.in_(states))
        .values(**values)
        .returning(Explanation.item_id)
    )
    return session.scalars(moved, execution_options={"synchronize_session": False}).first() is not None


def _free(session: Session) -> ColumnElement[bool]:
    return or_(Explanation.held_until.is_(None), Explanation.held_until <= now(session))


def _of(account_id: str, item_id: str) -> Select[Explanation]:
    query = select(Explanation).where(Explanation.item_id == item_id, Explanation.account_id == account_id)
    return query.options(selectinload(Explanation.faces))


def _held(session: Session, explanation: Explanation) -> Held:
    item = session.get_one(Item, explanation.item_id)
    best = select(Face).where(Face.item_id == item.id).order_by(Face.score.desc(), Face.ordinal).limit(FACES)
    return Held(
        item_id=item.id,
        account_id=item.account_id,
        tries=explanation.tries,
        blob=item.source_blob,
        upload=item.source_upload,
        image_sha256=item.image_sha256 or "",
        image_width=item.image_width or 0,
        view_blob=item.view_blob,
        faces=tuple(HeldFace(f.ordinal, f.left, f.top, f.width, f.height) for f in session.scalars(best)),
    )
