"""Expansion: a long source becomes items of its job, in steps that may break off anywhere and are gone on with.

A step is one transaction: its items, what it rejected, and how far the source is. So no item is lost and none comes
twice, whenever the process dies; a step that another process has taken meanwhile changes nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.orm import Session

from shield import buckets, uploads
from shield.db import new_id, now
from shield.errors import BucketForbidden, SourceFailed
from shield.jobs import NewItem, add_items, count
from shield.models import Job, Rejection, Source
from shield.queue import LANES
from shield.states import JobState, SourceKind, sources

KINDS = tuple(SourceKind)
KEPT_REJECTIONS = 1000  # rows of one job; beyond them rejections are only counted


@dataclass(frozen=True, slots=True)
class Expanding:
    """A job that expands: its source, and how far it is."""

    job_id: str
    account_id: str
    kind: SourceKind
    blob: str | None
    url: str | None
    position: int
    cursor: str


class Found(NamedTuple):
    """An item of a source, at this line, member or key, counted from 1."""

    position: int
    item: NewItem


class Rejected(NamedTuple):
    """A line, member or key that is no item: a stable code, and a sentence."""

    position: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Step:
    """What was read of a source, and where to go on; `last` when nothing is left of it."""

    found: Sequence[Found]
    rejected: Sequence[Rejected]
    position: int
    cursor: str
    last: bool


def submit(
    session: Session,
    account_id: str,
    kind: SourceKind,
    *,
    blob: str | None = None,
    url: str | None = None,
    name: str = "",
) -> Job:
    """Make a job of a stored source, or of an S3 prefix; durable when the session's transaction commits.

    That the account may read the prefix is for the caller to have checked. Such a job takes the bulk lane, however
    short its source turns out to be.
    """
    job = Job(
        id=new_id("job"),
        account_id=account_id,
        name=name,
        state=JobState.EXPANDING,
        lane=LANES[-1],
        total=0,
        created_at=now(session),
    )
    session.add(job)
    session.flush()
    session.add(Source(job_id=job.id, account_id=account_id, kind=kind, blob=blob, url=url))
    session.flush()
    return job


def next_account(
    session: Session,
    after: str,
    kinds: Collection[SourceKind] = KINDS,
    waiting: Collection[str] = (),
    not_of: Collection[str] = (),
) -> str | None:
    """The account whose turn comes after this account's, of those with jobs that expand; None when there is none.

    Only jobs with a source of these kinds count, none that is `waiting`, by their ids, and none `not_of` an account.
    """
    accounts = select(Job.account_id).join(Source, Source.job_id == Job.id).order_by(Job.account_id).limit(1)
    accounts = accounts.where(*_due(kinds, waiting), Job.account_id.not_in(not_of))
    following = session.scalars(accounts.where(Job.account_id > after)).first()
    return following or session.scalars(accounts).first()


def next_source(
    session: Session,
    account_id: str,
    after: str,
    kinds: Collection[SourceKind] = KINDS,
    waiting: Collection[str] = (),
) -> Expanding | None:
    """The source of an account's job whose turn comes after this job's, of those that next_account counts."""
    query = select(Source).join(Job, Job.id == Source.job_id).order_by(Job.id).limit(1)
    query = query.where(Job.account_id == account_id, *_due(kinds, waiting))
    row = session.scalars(query.where(Job.id > after)).first() or session.scalars(query).first()
    if row is None:
        return None
    return Expanding(row.job_id, row.account_id, SourceKind(row.kind), row.blob, row.url, row.position, row.cursor)


def _due(kinds: Collection[SourceKind], waiting: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    return Job.state == JobState.EXPANDING, Source.kind.in_(kinds), Job.id.not_in(waiting)


def advance(session: Session, expanding: Expanding, step: Step, chunk_items: int) -> bool:
    """Write a step of a job; with the last one the job is expanded.

    False, and nothing written, when the job no longer expands or another process took this step.
    """
    job = _lock(session, expanding)
    if job is None:
        return False
    found, rejected = _screen(session, expanding.account_id, step)
    first = job.total
    job.total += len(found)
    job.rejected += len(rejected)
    _keep(session, job, rejected)
    session.execute(update(Source).where(Source.job_id == job.id).values(position=step.position, cursor=step.cursor))
    session.flush()
    if found:
        add_items(session, job, found, first, chunk_items)
    if step.last:
        _finish(session, job.id)
    return True


def fail(session: Session, expanding: Expanding, detail: str) -> bool:
    """End the expansion of a source that cannot be read any further; what was expanded stays, and is scanned.

    False when the job no longer expands or another process is further with it.
    """
    job = _lock(session, expanding)
    if job is None:
        return False
    job.reason, job.reason_detail = SourceFailed.code, detail[:1000]
    session.flush()
    _finish(session, job.id)
    return True


def rejections(session: Session, job: Job, limit: int, after: int = 0) -> list[Rejection]:
    """What was rejected of a job's source, in its order, from the one after `after` on."""
    query = select(Rejection).where(Rejection.job_id == job.id, Rejection.account_id == job.account_id)
    return list(session.scalars(query.where(Rejection.position > after).order_by(Rejection.position).limit(limit)))


def _lock(session: Session, expanding: Expanding) -> Job | None:
    """The job, held until the commit, so that neither a cancel nor another step comes between; None when one did."""
    query = select(Job).where(
        Job.id == expanding.job_id, Job.account_id == expanding.account_id, Job.state == JobState.EXPANDING
    )
    job = session.scalars(query.with_for_update(key_share=True)).one_or_none()
    here = Source.position == expanding.position, Source.cursor == expanding.cursor
    if job is None or session.scalars(select(Source).where(Source.job_id == job.id, *here)).one_or_none() is None:
        return None
    return job


def _screen(session: Session, account_id: str, step: Step) -> tuple[list[NewItem], list[Rejected]]:
    """The items that the account may have scanned, and what is rejected, in the order of the source."""
    rejected = list(step.rejected)
    known = uploads.known(session, account_id, [found.item.upload for found in step.found if found.item.upload])
    granted = buckets.grants(session, account_id) if any(_in_s3(found) for found in step.found) else []
    items = []
    for found in step.found:
        place = buckets.parse_s3_url(found.item.url) if found.item.url and _in_s3(found) else None
        if found.item.upload and found.item.upload not in known:
            detail = f"no upload {found.item.upload} in this account: make one with POST /v1/uploads"
            rejected.append(Rejected(found.position, "unknown_upload", detail))
        elif place and not any(place.bucket == other.bucket and place.key.startswith(other.key) for other in granted):
            rejected.append(Rejected(found.position, BucketForbidden.code, buckets.forbidden(place)))
        else:
            items.append(found.item)
    return items, sorted(rejected)


def _in_s3(found: Found) -> bool:
    return found.item.url is not None and buckets.is_s3(found.item.url)


def _keep(session: Session, job: Job, rejected: Sequence[Rejected]) -> None:
    """Keep the first rejections of a job, whose count holds these already."""
    room = KEPT_REJECTIONS - (job.rejected - len(rejected))
    rows = [
        {"job_id": job.id, "account_id": job.account_id, **one._asdict(), "detail": one.detail[:1000]}
        for one in rejected[: max(0, room)]
    ]
    if rows:
        session.execute(insert(Rejection), rows)


def _finish(session: Session, job_id: str) -> None:
    """The job is like any other from here on: it runs where scanning has begun, and ends with its last item."""
    here = update(Job).where(Job.id == job_id)
    session.execute(here.where(Job.state.in_(sources(JobState.QUEUED))).values(state=JobState.QUEUED))
    begun = here.where(Job.state.in_(sources(JobState.RUNNING)), Job.started_at.is_not(None))
    session.execute(begun.values(state=JobState.RUNNING))
    count(session, job_id)
