"""Retention: jobs are deleted by their account or expire, are hidden at once, and are purged a day later.

The day is what makes the purge safe without a lock: until it is over, the images of a deleted job are still there for
whoever took them over while the job was not deleted yet - a retry of its failed items, a copy of an earlier result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    JSON,
    ColumnElement,
    String,
    and_,
    bindparam,
    column,
    delete,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from shield import audit, jobs
from shield.audit import Action
from shield.db import now
from shield.errors import JobRunning
from shield.models import (
    Attempt,
    BrowserSession,
    Case,
    CasePiece,
    Chunk,
    Decision,
    Delivery,
    Endpoint,
    Event,
    ExplainedFace,
    Explanation,
    Face,
    IdempotencyKey,
    Item,
    Job,
    LoginLink,
    Notice,
    Outbox,
    Rejection,
    Source,
    Upload,
)
from shield.states import JobState

# Longer than any request takes from storing its first image until its job is committed, and than any worker holds what
# it found: the bytes that are removed after it are nobody's.
GRACE = timedelta(hours=24)


def delete_job(session: Session, account_id: str, job_id: str, actor: str) -> None:
    """Hide an ended job from its account; the purge takes it. Raises NotFound, JobRunning."""
    job = jobs.get(session, account_id, job_id)
    if job.state != JobState.ENDED:
        raise JobRunning(f"{job_id} has not ended: cancel it first, then delete it")
    session.execute(update(Job).where(Job.id == job.id, Job.deleted_at.is_(None)).values(deleted_at=now(session)))
    audit.note(session, Action.JOB_DELETED, actor, account_id, job_id, images=str(job.total))


def expires_at(job: Job, days: float) -> datetime | None:
    """When an ended job is deleted by the house."""
    return job.ended_at + timedelta(days=days) if job.ended_at else None


def expire(session: Session, days: float, limit: int) -> int:
    """Delete jobs that ended more than so many days ago, up to `limit`; how many."""
    moment = now(session)
    old = select(Job.id).where(Job.ended_at < moment - timedelta(days=days), Job.deleted_at.is_(None))
    old = old.order_by(Job.ended_at).limit(limit)
    expired = update(Job).where(Job.id.in_(old)).values(deleted_at=moment).returning(Job.id)
    return len(session.scalars(expired, execution_options={"synchronize_session": False}).all())


def due(session: Session, limit: int) -> list[str]:
    """The ids of jobs that were deleted more than GRACE ago, the oldest first."""
    query = select(Job.id).where(Job.deleted_at < now(session) - GRACE)
    return list(session.scalars(query.order_by(Job.deleted_at).limit(limit)))


@dataclass(frozen=True, slots=True)
class Waste:
    """The next items of a job that is purged: up to which ordinal, and the blobs and uploads that are theirs alone."""

    last: int
    blobs: frozenset[str]
    uploads: tuple[str, ...]


def next_waste(session: Session, job_id: str, limit: int) -> Waste | None:
    """The first `limit` items that are left of a job, and what is to be removed before their rows are; None without."""
    page = select(Item.ordinal).where(Item.job_id == job_id).order_by(Item.ordinal).limit(limit).subquery()
    last = session.scalar(select(func.max(page.c.ordinal)))
    if last is None:
        return None
    going = and_(Item.job_id == job_id, Item.ordinal <= last)
    blobs: set[str] = set()
    for naming in (Item.source_blob, Item.view_blob):
        query = select(naming).distinct().where(going, naming.is_not(None), _unused_elsewhere(naming, job_id, last))
        blobs.update(blob for blob in session.scalars(query) if blob)
    for picture in (ExplainedFace.crop_blob, ExplainedFace.heatmap_blob):
        drawn = select(picture).distinct().join(Item, Item.id == ExplainedFace.item_id)
        blobs.update(session.scalars(drawn.where(going, _unused_elsewhere(picture, job_id, last))))
    other = aliased(Item)
    used = exists().where(other.source_upload == Upload.id, not_(and_(other.job_id == job_id, other.ordinal <= last)))
    uploads = select(Upload.id).distinct().join(Item, Item.source_upload == Upload.id)
    uploads = uploads.where(going, Upload.expires_at < now(session) - GRACE, not_(used))
    return Waste(last, frozenset(blobs), tuple(session.scalars(uploads)))


def _unused_elsewhere(
    blob: InstrumentedAttribute[str | None] | InstrumentedAttribute[str], job_id: str, last: int
) -> ColumnElement[bool]:
    """Whether no row refers to this blob that is not of a job's items up to `last`."""
    other, explained = aliased(Item), aliased(ExplainedFace)
    staying = not_(and_(other.job_id == job_id, other.ordinal <= last))
    # Apart, not as one "or": so a database may ask the index about each blob.
    return and_(
        ~exists().where(other.source_blob == blob, staying),
        ~exists().where(other.view_blob == blob, staying),
        ~exists().where(explained.crop_blob == blob, explained.item_id == other.id, staying),
        ~exists().where(explained.heatmap_blob == blob, explained.item_id == other.id, staying),
        ~exists().where(Source.blob == blob),
    )


# Every column that names a blob.
NAMING = (Item.source_blob, Item.view_blob, Source.blob, ExplainedFace.crop_blob, ExplainedFace.heatmap_blob)


def unnamed(session: Session, blobs: Sequence[str]) -> list[str]:
    """Which of these blobs no row names. Of each an index is asked for one entry: a popular image has a million."""
    unfold = func.json_each if session.get_bind().dialect.name == "sqlite" else func.json_array_elements_text
    given = unfold(bindparam("blobs", type_=JSON)).table_valued(column("value", String), name="given")
    one = [select(literal(1)).where(naming == given.c.value).limit(1).scalar_subquery() for naming in NAMING]
    return list(session.scalars(select(given.c.value).where(*(any_.is_(None) for any_ in one)), {"blobs": list(blobs)}))


def forgotten(session: Session, upload_ids: Sequence[str]) -> list[str]:
    """Which of these uploads have no row: it is there before anything can be put, and does not come back."""
    known = set(session.scalars(select(Upload.id).where(Upload.id.in_(upload_ids))))
    return [upload_id for upload_id in upload_ids if upload_id not in known]


def forget_cases(session: Session, limit: int) -> int:
    """Delete cases of deleted jobs, which nobody sees any more, with what was decided; how many.

    They do not wait for the purge of their job: until they are gone, whoever asks for the next case passes over them.
    """
    deleted = select(Job.id).where(Job.deleted_at.is_not(None))
    ids = session.scalars(select(Case.id).where(Case.job_id.in_(deleted)).limit(limit)).all()
    _delete_cases(session, Case.id.in_(ids))
    return len(ids)


def _delete_cases(session: Session, which: ColumnElement[bool]) -> None:
    cases = select(Case.id).where(which)
    # Whoever began to decide one before its job was deleted is waited for: their decision goes as well.
    session.execute(cases.order_by(Case.id).with_for_update())
    for statement in (
        delete(CasePiece).where(CasePiece.case_id.in_(cases)),
        delete(Decision).where(Decision.case_id.in_(cases)),
        delete(Case).where(which),
    ):
        session.execute(statement, execution_options={"synchronize_session": False})


def purge_items(session: Session, job_id: str, last: int) -> None:
    """Delete a deleted job's items up to this ordinal, with their faces, cases and explanations."""
    items = select(Item.id).where(Item.job_id == job_id, Item.ordinal <= last)
    _delete_cases(session, Case.item_id.in_(items))
    for statement in (
        delete(ExplainedFace).where(ExplainedFace.item_id.in_(items)),
        delete(Explanation).where(Explanation.item_id.in_(items)),
        delete(Face).where(Face.item_id.in_(items)),
        delete(Item).where(Item.job_id == job_id, Item.ordinal <= last),
    ):
        session.execute(statement, execution_options={"synchronize_session": False})


def source_waste(session: Session, job_id: str) -> str | None:
    """The blob that a job without items was expanded from, where nothing else refers to it."""
    other = aliased(Source)
    unused = (
        ~exists().where(Item.source_blob == Source.blob),
        ~exists().where(Item.view_blob == Source.blob),
        ~exists().where(other.blob == Source.blob, other.job_id != job_id),
    )
    return session.scalars(select(Source.blob).where(Source.job_id == job_id, *unused)).first()


def purge_job(session: Session, job_id: str) -> None:
    """Delete what is left of a deleted job whose items are gone."""
    # A chunk that was leased without its message may owe it to this day, where Redis was never there.
    chunks = select(Chunk.id).where(Chunk.job_id == job_id)
    session.execute(delete(Outbox).where(Outbox.chunk_id.in_(chunks)), execution_options={"synchronize_session": False})
    for table in (Rejection, Source, Chunk, IdempotencyKey):
        session.execute(delete(table).where(table.job_id == job_id), execution_options={"synchronize_session": False})
    session.execute(delete(Job).where(Job.id == job_id), execution_options={"synchronize_session": False})


@dataclass(frozen=True, slots=True)
class ExpiredUploads:
    """A page of uploads whose URLs expired more than GRACE ago: those that no item refers to, and where to go on."""

    unused: tuple[str, ...]
    after: tuple[datetime, str] | None


def expired_uploads(session: Session, after: tuple[datetime, str] | None, limit: int) -> ExpiredUploads:
    """The next page of them; `after` is None where it is the last."""
    user = select(Item.id).where(Item.source_upload == Upload.id).limit(1).scalar_subquery()
    query = select(Upload.id, Upload.expires_at, user).where(Upload.expires_at < now(session) - GRACE)
    if after is not None:
        moment, upload_id = after
        further = or_(Upload.expires_at > moment, and_(Upload.expires_at == moment, Upload.id > upload_id))
        query = query.where(Upload.expires_at >= moment, further)
    rows = session.execute(query.order_by(Upload.expires_at, Upload.id).limit(limit)).all()
    unused = tuple(upload_id for upload_id, _, item_id in rows if item_id is None)
    return ExpiredUploads(unused, (rows[-1][1], rows[-1][0]) if len(rows) == limit else None)


def purge_uploads(session: Session, ids: Sequence[str]) -> None:
    """Delete uploads that no item refers to; one that is referred to by now stays."""
    used = exists().where(Item.source_upload == Upload.id)
    gone = delete(Upload).where(Upload.id.in_(ids), not_(used))
    session.execute(gone, execution_options={"synchronize_session": False})


def forget_sign_ins(session: Session) -> None:
    """Delete the browser sessions and the links that have expired."""
    for table in (BrowserSession, LoginLink):
        session.execute(delete(table).where(table.expires_at < now(session)))


def forget_events(session: Session, days: float, limit: int) -> int:
    """Delete events older than so many days that are owed to nobody, with all that was sent of them; how many.

    And, once nothing is left that was sent to them, the webhooks that their account deleted.
    """
    moment, unsynchronised = now(session), {"synchronize_session": False}
    owed = exists().where(Delivery.event_id == Event.id, Delivery.ended_at.is_(None))
    old = select(Event.id).where(Event.created_at < moment - timedelta(days=days), ~owed)
    events = session.scalars(old.order_by(Event.created_at).limit(limit).with_for_update(skip_locked=True)).all()
    if events:
        sent = select(Delivery.id).where(Delivery.event_id.in_(events))
        session.execute(delete(Attempt).where(Attempt.delivery_id.in_(sent)), execution_options=unsynchronised)
        session.execute(delete(Delivery).where(Delivery.event_id.in_(events)), execution_options=unsynchronised)
        session.execute(delete(Event).where(Event.id.in_(events)), execution_options=unsynchronised)
    used = exists().where(Delivery.account_id == Endpoint.account_id, Delivery.endpoint_id == Endpoint.id)
    deleted = select(Endpoint).where(Endpoint.deleted_at < moment - GRACE, ~used).limit(limit)
    for endpoint in session.scalars(deleted).all():
        mine = (Notice.account_id == endpoint.account_id, Notice.endpoint_id == endpoint.id)
        session.execute(delete(Notice).where(*mine), execution_options=unsynchronised)
        session.delete(endpoint)
    return len(events)
