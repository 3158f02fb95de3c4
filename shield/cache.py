"""The cache: what was measured on the same bytes by the same weights before, in any job of the same account."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from sqlalchemy import JSON, Row, Select, String, Table, bindparam, column, func, literal_column, select
from sqlalchemy.orm import Session

from shield.models import Face, Item, Job
from shield.policy import FaceFacts

ITEM, JOB, FACE = (cast("Table", entity.__table__) for entity in (Item, Job, Face))

Digest = tuple[str, str]  # the account, and the sha256 of the encoded image


@dataclass(frozen=True, slots=True)
class Measured:
    """What a scan of an image found, without the verdict: a policy judges it anew."""

    faces: tuple[FaceFacts, ...]
    width: int
    height: int
    format: str
    sha256: str
    view_blob: str | None
    weights_sha256: str
    image_hash: str | None


def find(session: Session, weights_sha256: str, wanted: Collection[Digest]) -> dict[Digest, Measured]:
    """What is known of these images: a query for each account, and one for the faces where there are any.

    Only of jobs that are not deleted: what such a job holds, its views among it, is there for retention.GRACE at least,
    far longer than a lease, so what is found here can still be referred to when it is recorded.
    """
    of_account: defaultdict[str, list[str]] = defaultdict(list)
    for account_id, sha256 in wanted:
        of_account[account_id].append(sha256)
    query = _earlier(session.get_bind().dialect.name == "sqlite")
    ids: list[str] = [
        item_id
        for account_id, hashes in of_account.items()
        for item_id in session.scalars(query, {"account": account_id, "hashes": hashes, "weights": weights_sha256})
        if item_id is not None
    ]
    if not ids:
        return {}
    faces = _faces(session, ids)
    found = session.execute(select(ITEM).where(ITEM.c.id.in_(ids)))
    return {(row.account_id, row.image_sha256): _measured(row, tuple(faces[row.id])) for row in found}


@cache
def _earlier(is_sqlite: bool) -> Select[Any]:
    """The id of one earlier item for each of `hashes`, by the index: a popular image may have a million of them."""
    hashes, value = bindparam("hashes", type_=JSON), column("value", String)
    unfolded = func.json_each(hashes) if is_sqlite else func.json_array_elements_text(hashes)
    image = unfolded.table_valued(value, name="image")
    # Asked for each item that is found, so that no statistics can make a database begin with the jobs.
    deleted_at = select(JOB.c.deleted_at).where(JOB.c.id == ITEM.c.job_id).scalar_subquery()
    one = (
        select(ITEM.c.id)
        # The state is written out, not bound: only so can a database see that the index of scanned items serves.
        .where(ITEM.c.state == literal_column("'done'"), ITEM.c.account_id == bindparam("account"))
        .where(ITEM.c.image_sha256 == image.c.value, ITEM.c.weights_sha256 == bindparam("weights"))
        .where(deleted_at.is_(None))
        .limit(literal_column("1"))
        .correlate(image)
        .scalar_subquery()
    )
    return select(one).select_from(image)


def _faces(session: Session, item_ids: Collection[str]) -> defaultdict[str, list[FaceFacts]]:
    """The faces of each of these items, in order."""
    faces: defaultdict[str, list[FaceFacts]] = defaultdict(list)
    query = select(FACE).where(FACE.c.item_id.in_(item_ids)).order_by(FACE.c.item_id, FACE.c.ordinal)
    for row in session.execute(query):
        faces[row.item_id].append(_facts(row))
    return faces


def _measured(row: Row[Any], faces: tuple[FaceFacts, ...]) -> Measured:
    return Measured(
        faces=faces,
        width=row.image_width,
        height=row.image_height,
        format=row.image_format,
        sha256=row.image_sha256,
        view_blob=row.view_blob,
        weights_sha256=row.weights_sha256,
        image_hash=row.image_hash,
    )


def _facts(face: Row[Any]) -> FaceFacts:
    return FaceFacts(
        left=face.left,
        top=face.top,
        width=face.width,
        height=face.height,
        detection_score=face.detection_score,
        score=face.score,
        landmarks=tuple((x, y) for x, y in face.landmarks),
    )
