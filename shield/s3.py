"""S3: the one client of the configured server, and blobs that are kept there.

Which server is a setting, and whose credentials is boto3's own affair (environment, files, instance role): a request
can name neither. Signed URLs and signatures appear in no log.
"""

import io
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from http import HTTPStatus
from ipaddress import ip_address
from typing import IO, TYPE_CHECKING, BinaryIO, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from shield.blobs import SHA256, UPLOAD_ID, TooLarge, checked, copy, storing, upload_missing
from shield.errors import BlobMissing, S3Forbidden, S3Missing, SettingsError, ShieldError, StorageUnavailable
from shield.settings import MIB, Settings

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer
    from mypy_boto3_s3 import S3Client

DEFAULT_REGION = "us-east-1"
CONFIG = Config(
    signature_version="s3v4",  # boto3 would presign with an older one
    connect_timeout=5,  # all attempts together stay within what a worker grants an image (worker.keeper)
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=32,
    # What other S3 servers do not know. A body is signed with its sha256 all the same.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
IN_MEMORY = 4 * MIB  # bytes of a stream; beyond it a temporary file takes them
WINDOW = MIB  # bytes of an object that are read at a time
CLOCK = timedelta(seconds=1)  # S3 tells the age of an object in whole seconds
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

# What no other try would change, by the code that S3 servers give beside one status or another: what is to be done.
CREDENTIALS = "the operator corrects the S3 credentials of this installation, and starts it again"
REGION = "the bucket is in another region: the operator sets SHIELD_S3_REGION"
REFUSALS = {
    "InvalidAccessKeyId": CREDENTIALS,
    "SignatureDoesNotMatch": CREDENTIALS,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "PermanentRedirect": REGION,
    "301": REGION,  # in the answer to a HEAD, which has no body to name a code in
}

for _name in ("boto3", "botocore", "urllib3"):
    logging.getLogger(_name).setLevel(logging.INFO)  # at debug they log signatures, and URLs that are signed


def is_bucket(name: str) -> bool:
    """Whether a bucket may have this name: so it is no path, no ARN and no address of another server."""
    if BUCKET.fullmatch(name) is None or ".." in name:
        return False
    try:
        ip_address(name)
    except ValueError:
        return True
    return False


def client(settings: Settings) -> "S3Client":
    """The client of this process for the configured server; safe in many threads."""
    return _client(settings.s3_endpoint_url, settings.s3_region)


@cache
def _client(endpoint_url: str, region: str) -> "S3Client":
    session = boto3.session.Session()  # boto3's default one is not safe in threads
    region = region or session.region_name or DEFAULT_REGION
    return session.client("s3", region_name=region, endpoint_url=endpoint_url or None, config=CONFIG)


@contextmanager
def speaking(where: str) -> Iterator[None]:
    """Turns what boto3 raises about `where` into S3Missing, S3Forbidden or StorageUnavailable."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = error.response.get("Error", {}).get("Code", "")
        if status == HTTPStatus.NOT_FOUND:
            raise S3Missing(f"there is no {where} ({code})") from error
        if status == HTTPStatus.FORBIDDEN or code in REFUSALS:
            then = REFUSALS.get(code, "the operator lets the installation's S3 credentials list and read it")
            raise S3Forbidden(f"the S3 server does not let us at {where} ({code}): {then}") from error
        raise StorageUnavailable(f"the S3 server answered {status} {code} about {where}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise S3Forbidden(f"there are no S3 credentials to get at {where} with: {CREDENTIALS}") from error
    except BotoCoreError as error:  # no connection, no end of the body
        raise StorageUnavailable(f"the S3 server cannot be used for {where}: {type(error).__name__}") from error


def read(s3: "S3Client", bucket: str, key: str, limit: int) -> bytes:
    """An object's bytes. Raises TooLarge beyond `limit`, S3Missing, S3Forbidden, StorageUnavailable."""
    with speaking(f"s3://{bucket}/{key}"):
        answer = s3.get_object(Bucket=bucket, Key=key)
        with answer["Body"] as body:
            content = body.read(limit + 1) if answer["ContentLength"] <= limit else b""
    if answer["ContentLength"] > limit or len(content) > limit:
        raise TooLarge(limit)
    return content


class S3Blobs:
    """Blobs as objects of one bucket: PREFIX/aa/bb/sha256, and uploads as PREFIX/uploads/zz/ID, as LocalBlobs has them.

    The bucket is made beforehand, and private. Objects appear whole, so nothing stale is left by a process that dies.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError when SHIELD_BLOBS is not s3://BUCKET or s3://BUCKET/PREFIX."""
        self._bucket, _, prefix = settings.blobs.removeprefix("s3://").partition("/")
        if not is_bucket(self._bucket):
            raise SettingsError(f"SHIELD_BLOBS names no valid bucket: {settings.blobs!r} should be s3://BUCKET/PREFIX")
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        self._where = f"s3://{self._bucket}/{self._prefix}"
        self._s3 = client(settings)

    def put(self, stream: IO[bytes], limit: int) -> str:
        """Spool the stream, for its sha256 is its name; then one PUT, even if it is there: that renews its age."""
        with _spooled(stream, limit) as (file, sha256), self._speaking():
            self._s3.put_object(Bucket=self._bucket, Key=self._key(sha256), Body=file)
        return sha256

    def get(self, sha256: str) -> bytes:
        """GET the object."""
        with self._speaking(self._missing(sha256)):
            answer = self._s3.get_object(Bucket=self._bucket, Key=self._key(sha256))
            with answer["Body"] as body:
                return body.read()

    def open(self, sha256: str) -> BinaryIO:
        """The object, a window at a time: nothing of it lies on this machine's disk."""
        with self._speaking(self._missing(sha256)):
            size = self._s3.head_object(Bucket=self._bucket, Key=self._key(sha256))["ContentLength"]

        def part(start: int, end: int) -> bytes:
            with self._speaking(self._missing(sha256)):
                where = f"bytes={start}-{end - 1}"
                answer = self._s3.get_object(Bucket=self._bucket, Key=self._key(sha256), Range=where)
                with answer["Body"] as body:
                    return body.read()

        return cast("BinaryIO", io.BufferedReader(_Object(part, size), WINDOW))

    def remove_old(self, sha256: str, before: datetime) -> bool:
        """HEAD, then DELETE: S3 cannot do the two as one.

        So a blob that nobody named for as long as the purge waits, and that is put again in the milliseconds between
        the two, is removed with what the purge meant. LocalBlobs and MemoryBlobs have no such gap.
        """
        try:
            with self._speaking(self._missing(sha256)):
                age = self._s3.head_object(Bucket=self._bucket, Key=self._key(sha256))["LastModified"]
        except BlobMissing:
            return True
        if age + CLOCK >= before:
            return False
        with self._speaking():
            self._s3.delete_object(Bucket=self._bucket, Key=self._key(sha256))
        return True

    def put_upload(self, upload_id: str, stream: IO[bytes], limit: int) -> None:
        """One PUT, as of a blob."""
        with _spooled(stream, limit) as (file, _), self._speaking():
            self._s3.put_object(Bucket=self._bucket, Key=self._upload_key(upload_id), Body=file)

    def get_upload(self, upload_id: str, limit: int) -> bytes:
        """GET the upload, whatever its size was: a presigned PUT has no limit."""
        with self._speaking(upload_missing(upload_id)):
            return read(self._s3, self._bucket, self._upload_key(upload_id), limit)

    def remove_upload(self, upload_id: str) -> None:
        """DELETE, which S3 answers alike when there is nothing."""
        with self._speaking():
            self._s3.delete_object(Bucket=self._bucket, Key=self._upload_key(upload_id))

    def upload_url(self, upload_id: str, seconds: int) -> str:
        """A presigned PUT. It ends sooner where the credentials that sign it do."""
        with self._speaking():
            where = {"Bucket": self._bucket, "Key": self._upload_key(upload_id)}
            return self._s3.generate_presigned_url("put_object", Params=where, ExpiresIn=seconds)

    def names(self, number: int) -> Iterator[str]:
        """List two prefixes, a page of keys at a time. Keys that are not of our form are somebody else's."""
        digits = f"{number:02x}"
        pages = self._s3.get_paginator("list_objects_v2")
        for prefix, form, key in (
            (f"{self._prefix}{digits}/", SHA256, self._key),
            (f"{self._prefix}uploads/{digits}/", UPLOAD_ID, self._upload_key),
        ):
            with self._speaking():
                for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                    for found in page.get("Contents", []):
                        name = found["Key"].rpartition("/")[2]
                        if form.fullmatch(name) and key(name) == found["Key"]:
                            yield name

    def probe(self) -> None:
        """PUT an empty object."""
        with self._speaking():
            self._s3.put_object(Bucket=self._bucket, Key=f"{self._prefix}probe", Body=b"")

    def remove_stale(self) -> None:
        """An object appears whole or not at all."""

    def _key(self, sha256: str) -> str:
        name = checked(sha256, SHA256)
        return f"{self._prefix}{name[:2]}/{name[2:4]}/{name}"

    def _upload_key(self, upload_id: str) -> str:
        name = checked(upload_id, UPLOAD_ID)
        return f"{self._prefix}uploads/{name[-2:]}/{name}"

    def _missing(self, sha256: str) -> BlobMissing:
        return BlobMissing(f"no blob {sha256} in {self._where}: was it deleted by hand?")

    @contextmanager
    def _speaking(self, missing: ShieldError | None = None) -> Iterator[None]:
        """Our own bucket: `missing` is what a 404 means, if anything; whatever else it refuses, the store is away."""
        try:
            with speaking(self._where):
                yield
        except S3Missing as error:
            raise missing or _away(error) from error
        except S3Forbidden as error:
            raise _away(error) from error


class _Object(io.RawIOBase):
    """The bytes of an object, of which `part` gets those from one place up to another."""

    def __init__(self, part: Callable[[int, int], bytes], size: int) -> None:
        self._part = part
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"no place {base + offset} in a blob")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer).cast("B")
        content = self._read(len(view))
        view[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return self._read(self._size)

    def _read(self, most: int) -> bytes:
        end = min(self._place + most, self._size)
        if self._place >= end:
            return b""
        content = self._part(self._place, end)
        self._place += len(content)
        return content


@contextmanager
def _spooled(stream: IO[bytes], limit: int) -> Iterator[tuple[IO[bytes], str]]:
    """A stream's bytes as a file at its start, and their sha256. Raises TooLarge; StorageUnavailable on a full disk."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        with storing():
            sha256 = copy(stream, file, limit)
            file.seek(0)
        yield file, sha256


def _away(error: ShieldError) -> StorageUnavailable:
    return StorageUnavailable(f"{error}: check SHIELD_BLOBS, and what its credentials may do there")
