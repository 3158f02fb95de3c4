"""Buckets: where in S3 an account's images may be read, and what lies there.

The server is the configured one: no request can name another. Which of its buckets and prefixes an account may read is
granted by the operator, checked when a job is submitted, and again when its images are fetched.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shield import s3
from shield.errors import BucketForbidden, InvalidSubmission
from shield.models import BucketGrant
from shield.settings import Settings

SCHEME = "s3://"
KEY_BYTES = 1024  # S3's own limit
NOT_IN_A_KEY = re.compile(r"[\x00-\x1f\x7f]|(^|/)\.{1,2}(/|$)")  # a segment of dots may lead out of a granted prefix


class Place(NamedTuple):
    """A bucket, and a key of it or what its keys begin with."""

    bucket: str
    key: str

    @property
    def url(self) -> str:
        """As an s3:// URL."""
        return f"{SCHEME}{self.bucket}/{self.key}"


def is_s3(url: str) -> bool:
    """Whether this URL is one of S3, well-formed or not."""
    return url[: len(SCHEME)].lower() == SCHEME


def parse_s3_url(url: str) -> Place:
    """The bucket and key of s3://bucket/key. Raises InvalidSubmission.

    What follows the bucket is the key as it is: nothing in it is percent-decoded, and ? and # belong to it.
    """
    place = parse_s3_prefix(url)
    if not place.key:
        raise InvalidSubmission("the URL names a bucket but no key: s3://bucket/key")
    return place


def parse_s3_prefix(url: str) -> Place:
    """The bucket and prefix of s3://bucket/prefix; the prefix may be empty. Raises InvalidSubmission."""
    bucket, _, key = url[len(SCHEME) :].partition("/")
    if not is_s3(url) or not s3.is_bucket(bucket):
        raise InvalidSubmission("not s3://bucket/key with a valid name of a bucket (3 to 63 of a-z, 0-9, - and .)")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidSubmission("the key of the S3 URL is not Unicode") from error
    if size > KEY_BYTES:
        raise InvalidSubmission(f"the key of the S3 URL is longer than {KEY_BYTES} bytes of UTF-8")
    if NOT_IN_A_KEY.search(key):
        raise InvalidSubmission("the key of the S3 URL holds a control character, or a segment that is . or ..")
    return Place(bucket, key)


def grant(session: Session, account_id: str, place: Place) -> None:
    """Let an account read every key that begins so. Granting twice is granting once."""
    session.merge(BucketGrant(account_id=account_id, bucket=place.bucket, prefix=place.key))


def revoke(session: Session, account_id: str, place: Place) -> bool:
    """Take back a grant; False when there was none of exactly this prefix. Other grants may still cover it."""
    found = delete(BucketGrant).where(
        BucketGrant.account_id == account_id, BucketGrant.bucket == place.bucket, BucketGrant.prefix == place.key
    )
    return session.scalars(found.returning(BucketGrant.prefix)).first() is not None


def grants(session: Session, account_id: str) -> list[Place]:
    """Every grant of an account, in order."""
    query = select(BucketGrant.bucket, BucketGrant.prefix).where(BucketGrant.account_id == account_id)
    rows = session.execute(query.order_by(BucketGrant.bucket, BucketGrant.prefix))
    return [Place(bucket, prefix) for bucket, prefix in rows]


def allowed(session: Session, account_id: str, bucket: str, key: str) -> bool:
    """Whether an account may read this key, or everything that begins so."""
    query = select(BucketGrant.prefix).where(BucketGrant.account_id == account_id, BucketGrant.bucket == bucket)
    return any(key.startswith(prefix) for prefix in session.scalars(query))


def check(session: Session, account_id: str, urls: Sequence[str | None]) -> None:
    """Raises InvalidSubmission or BucketForbidden for the first S3 URL that cannot be read, with a pointer to it.

    `urls` holds the URL of each item, in the order of the submission; what is no S3 URL, or None, is passed over.
    """
    granted: list[Place] | None = None
    for number, url in enumerate(urls):
        if url is None or not is_s3(url):
            continue
        pointer = f"/items/{number}/url"
        try:
            place = parse_s3_url(url)
        except InvalidSubmission as error:
            raise InvalidSubmission(str(error), pointer) from error
        if granted is None:
            granted = grants(session, account_id)
        if not any(place.bucket == other.bucket and place.key.startswith(other.key) for other in granted):
            raise BucketForbidden(forbidden(place), pointer)


def forbidden(place: Place) -> str:
    """What to tell an account that has no grant there."""
    return f"this account may not read {place.url}: ask the operator (`python -m shield allow-s3`)"


def list_keys(settings: Settings, bucket: str, prefix: str, start_after: str) -> Iterator[tuple[str, int]]:
    """Key and size in bytes of every object whose key begins so, in the order of keys, from after `start_after` on.

    A page is asked for when the one before is used up. Raises S3Missing, S3Forbidden, StorageUnavailable.
    """
    pages = s3.client(settings).get_paginator("list_objects_v2")
    where = f"{SCHEME}{bucket}/{prefix}"
    with s3.speaking(where):
        for page in pages.paginate(Bucket=bucket, Prefix=prefix, StartAfter=start_after):
            for found in page.get("Contents", []):
                yield found["Key"], found["Size"]
