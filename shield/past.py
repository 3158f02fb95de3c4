"""The past: what was measured on an account's images and how they were judged, read page by page, the newest first."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from shield.models import WHOLE_ITEM, Face, Item, Job, Weights
from shield.policies import default_of
from shield.policy import FaceFacts, Origin, Policy
from shield.states import ItemState, Verdict

PAGE = 500  # items read at a time

ITEM = (Item.id, Item.source_url, Item.verdict, Item.weights_sha256, Item.policy_version)
FACE = (Face.item_id, Face.left, Face.top, Face.width, Face.height, Face.detection_score, Face.score)


@dataclass(frozen=True, slots=True)
class Past:
    """An image that was scanned and judged. Its faces are without landmarks: no policy looks at them."""

    item_id: str
    origin: Origin
    verdict: Verdict
    weights_sha256: str
    policy_version: str
    faces: tuple[FaceFacts, ...]


def newest(session: Session, account_id: str, limit: int) -> Iterator[Past]:
    """Scanned images of the account's newest jobs, at most `limit` of them."""
    query = select(Job.id, Job.done).where(Job.account_id == account_id, Job.deleted_at.is_(None))
    yield from _of(session, account_id, session.execute(query.order_by(Job.id.desc()).limit(limit)).all(), limit)


def of_jobs(session: Session, account_id: str, job_ids: Sequence[str], limit: int) -> Iterator[Past]:
    """Scanned images of these jobs, as far as they are the account's, at most `limit` of them."""
    query = select(Job.id, Job.done).where(Job.account_id == account_id, Job.deleted_at.is_(None))
    query = query.where(Job.id.in_(job_ids)).order_by(Job.id.desc())
    yield from _of(session, account_id, session.execute(query).all(), limit)


def of_items(session: Session, account_id: str, item_ids: Sequence[str]) -> list[Past]:
    """What was measured on these items of the account, which are scanned."""
    query = select(*ITEM).where(Item.id.in_(item_ids), Item.account_id == account_id, Item.state == ItemState.DONE)
    return _with_faces(session, session.execute(query).all())


def whole(session: Session, account_id: str, item_ids: Sequence[str]) -> dict[str, Item]:
    """These items of the account with all that is shown of them, by their ids; those that are gone are missing."""
    query = select(Item).join(Job, Job.id == Item.job_id).where(Item.id.in_(item_ids), Item.account_id == account_id)
    rows = session.scalars(query.where(Job.deleted_at.is_(None)).options(*WHOLE_ITEM))
    return {row.id: row for row in rows}


def defaults(session: Session) -> dict[str, Policy]:
    """The default policy of every weights card that was ever registered, by its sha256; the newest one last."""
    query = select(Weights).order_by(Weights.registered_at, Weights.sha256)
    return {weights.sha256: default_of(weights) for weights in session.scalars(query)}


def _of(session: Session, account_id: str, jobs: Sequence[Row[*tuple[Any, ...]]], limit: int) -> Iterator[Past]:
    left = limit
    for job_ids in _together(jobs):
        query = select(*ITEM).where(Item.job_id.in_(job_ids), Item.account_id == account_id)
        query = query.where(Item.state == ItemState.DONE).order_by(Item.job_id.desc(), Item.ordinal).limit(left)
        for page in session.execute(query.execution_options(yield_per=PAGE)).partitions():
            yield from _with_faces(session, page)
            left -= len(page)
        if left <= 0:
            return


def _together(jobs: Sequence[Row[*tuple[Any, ...]]]) -> Iterator[list[str]]:
    """Ids of jobs that are read by one query: about a page of small ones, or a large one alone.

    Alone it is read in the order of an index; what is of several jobs is sorted, and so is little.
    """
    some: list[str] = []
    images = 0
    for job in jobs:
        if some and images + job.done > PAGE:
            yield some
            some, images = [], 0
        if job.done:
            some.append(job.id)
            images += job.done
    if some:
        yield some


def _with_faces(session: Session, page: Sequence[Row[*tuple[Any, ...]]]) -> list[Past]:
    faces: defaultdict[str, list[FaceFacts]] = defaultdict(list)
    query = select(*FACE).where(Face.item_id.in_([row.id for row in page])).order_by(Face.item_id, Face.ordinal)
    for item_id, left, top, width, height, detection_score, score in session.execute(query):
        faces[item_id].append(FaceFacts(left, top, width, height, detection_score, score, ()))
    return [
        Past(
            item_id=row.id,
            origin=Origin.of(row.source_url),
            verdict=Verdict(row.verdict),
            weights_sha256=row.weights_sha256,
            policy_version=row.policy_version,
            faces=tuple(faces[row.id]),
        )
        for row in page
    ]
