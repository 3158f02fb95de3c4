"""Uploads: images whose bytes are stored beforehand, under a signed URL, and which a submission names by their ids."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from shield.db import new_id, now
from shield.errors import InvalidSubmission
from shield.models import Upload

IDS = 1000  # asked for in one query
NAMED = timedelta(
    hours=12
)  # after its URL expired; less than the purge waits, so that none is purged while it is named


def create(session: Session, account_id: str, count: int, hours: float) -> list[Upload]:
    """New uploads of this account, whose URLs can be used for so many hours."""
    moment = now(session)
    expires = moment + timedelta(hours=hours)
    made = [
        Upload(id=new_id("upl"), account_id=account_id, created_at=moment, expires_at=expires) for _ in range(count)
    ]
    session.add_all(made)
    session.flush()
    return made


def known(session: Session, account_id: str, ids: Sequence[str]) -> set[str]:
    """Which of these are uploads of this account that may be named now."""
    found: set[str] = set()
    oldest = now(session) - NAMED
    for start in range(0, len(ids), IDS):
        query = select(Upload.id).where(Upload.account_id == account_id, Upload.id.in_(ids[start : start + IDS]))
        found.update(session.scalars(query.where(Upload.expires_at > oldest)))
    return found


def check(session: Session, account_id: str, ids: Sequence[str | None]) -> None:
    """Raises InvalidSubmission for the first that is no upload of this account, with a pointer to it.

    `ids` holds the upload of each item, in the order of the submission; None where an item has another source.
    """
    there = known(session, account_id, [upload_id for upload_id in ids if upload_id is not None])
    for number, upload_id in enumerate(ids):
        if upload_id is not None and upload_id not in there:
            detail = f"no upload {upload_id} in this account, or it expired: make one with POST /v1/uploads"
            raise InvalidSubmission(detail, f"/items/{number}/upload")
