"""The cache: what was measured on the same bytes by the same weights before, in any job of the same account."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, literal_column, select, union_all
from sqlalchemy.orm import Session, selectinload

from shield.models import Face, Item, Job
from shield.policy import FaceFacts

Digest = tuple[str, str]  # the account, and the sha256 of the encoded image
ASKED = 200  # images in one query: SQLite compounds no more than 500


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


def find(session: Session, weights_sha256: str, wanted: Collection[Digest]) -> dict[Digest, Measured]:
    """What is known of these images: a query, and one for the faces, for each ASKED of them.

    Only of jobs that are not deleted: what such a job holds, its views among it, is there for retention.GRACE at least,
    far longer than a lease, so what is found here can still be referred to when it is recorded.
    """
    digests = list(wanted)
    found: dict[Digest, Measured] = {}
    for start in range(0, len(digests), ASKED):
        for row in session.scalars(_earlier(weights_sha256, digests[start : start + ASKED])):
            found[row.account_id, row.image_sha256 or ""] = _measured(row)
    return found


def _earlier(weights_sha256: str, digests: Sequence[Digest]) -> Select[Item]:
    # One earlier item an image, by the index: a popular image may have a million of them. The state is written out, not
    # bound: only so can a database see that the index of scanned items serves.
    each = [
        select(
            select(Item.id)
            .join(Job, Job.id == Item.job_id)
            .where(Item.state == literal_column("'done'"), Item.account_id == account_id, Item.image_sha256 == sha256)
            .where(Item.weights_sha256 == weights_sha256, Job.deleted_at.is_(None))
            .limit(1)
            .subquery()
            .c.id
        )
        for account_id, sha256 in digests
    ]
    return select(Item).where(Item.id.in_(union_all(*each))).options(selectinload(Item.faces))


def _measured(row: Item) -> Measured:
    return Measured(
        faces=tuple(_facts(face) for face in row.faces),
        width=row.image_width or 0,
        height=row.image_height or 0,
        format=row.image_format or "",
        sha256=row.image_sha256 or "",
        view_blob=row.view_blob,
        weights_sha256=row.weights_sha256 or "",
    )


def _facts(row: Face) -> FaceFacts:
    return FaceFacts(
        left=row.left,
        top=row.top,
        width=row.width,
        height=row.height,
        detection_score=row.detection_score,
        score=row.score,
        landmarks=tuple((x, y) for x, y in row.landmarks),
    )
