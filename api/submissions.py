"""Submissions: what a request brings becomes stored blobs, items and a job. For the API and the pages alike."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from flask import Request
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from api.auth import account_id, check_again
from api.errors import Malformed, TooLargeUpload, UnsupportedMediaType
from api.multipart import Part, read_parts
from api.schemas import JobName, NewJob
from api.sources import BOM, store_manifest, store_zip
from api.stores import stores
from shield import buckets, expansion, idempotency, jobs, quotas, uploads
from shield.blobs import TooLarge
from shield.errors import BucketForbidden, InvalidSubmission
from shield.items import CustomId
from shield.jobs import NewItem
from shield.models import IdempotencyKey, Job
from shield.states import SourceKind

JSON_BYTES = 32 * 1024 * 1024  # a JSON body is held in memory
FIELD_BYTES = 8 * 1024

_custom_id: TypeAdapter[str] = TypeAdapter(CustomId)
_name: TypeAdapter[str] = TypeAdapter(JobName)


@dataclass(frozen=True, slots=True)
class LongSource:
    """What is expanded after the 202: a stored manifest or zip by its blob, an S3 prefix by its URL."""

    kind: SourceKind
    blob: str | None = None
    url: str | None = None


class Accepted(NamedTuple):
    """A durable job; `replayed` when an earlier request with the same idempotency key made it."""

    job: Job
    replayed: bool


@dataclass(slots=True)
class Submission:
    """What a request asks for, checked: items, or a long source. `form_token` proves that a form is of our pages."""

    name: str = ""
    items: list[NewItem] = field(default_factory=list)
    source: LongSource | None = None
    form_token: str = ""

    def fingerprint(self) -> str:
        """Equal for requests that ask for the same."""
        source = self.source and asdict(self.source)
        return idempotency.fingerprint(
            {"name": self.name, "items": [asdict(item) for item in self.items], "source": source}
        )


def read_submission(request: Request, name: str = "") -> Submission:
    """The job that a request of any of the media types asks for; `name` is its name where the body gives none.

    Raises UnsupportedMediaType, Malformed, TooLargeUpload, InvalidSubmission, StorageUnavailable, and pydantic's
    ValidationError with a pointer to each fault.
    """
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("send the body as it is, without Content-Encoding")
    match request.mimetype:
        case "multipart/form-data":
            submission = read_upload(request)
            if not submission.items:
                raise InvalidSubmission("a job needs at least one file", "/files")
        case "application/json":
            submission = _read_json(request)
        case "application/jsonl" | "application/x-ndjson":
            submission = Submission(source=LongSource(SourceKind.MANIFEST, blob=store_manifest(request)))
        case "application/zip":
            submission = Submission(source=LongSource(SourceKind.ZIP, blob=store_zip(request)))
        case _:
            raise UnsupportedMediaType(
                "send multipart/form-data with files, application/json with items or a prefix, application/jsonl with"
                " an item a line, or application/zip"
            )
    submission.name = submission.name or name
    return submission


def accept(submission: Submission, idempotency_key: str | None = None) -> Accepted:
    """Make it a durable job of this request's account, then poke the queue.

    Raises BucketForbidden and InvalidSubmission for a source that is not this account's, IdempotencyKeyReused,
    BacklogFull, StorageUnavailable, and what `check_again` raises.
    """
    check_again()
    asked = submission.fingerprint() if idempotency_key else ""
    return make_once(lambda session: _make_job(session, submission), asked, idempotency_key)


def make_once(make: Callable[[Session], Job], asked: str, idempotency_key: str | None) -> Accepted:
    """The job that `make` makes, or the one that the key made before; `asked` is the fingerprint of the request.

    Raises NotFound when that one was deleted, IdempotencyKeyReused, BacklogFull, QuotaUsed, StorageUnavailable, and
    what `make` raises.
    """
    held = stores()
    with held.database.write() as session:
        if idempotency_key and (made := idempotency.job_of(session, account_id(), idempotency_key, asked)):
            return Accepted(jobs.get(session, account_id(), made), replayed=True)
        jobs.check_backlog(session, account_id(), held.settings.max_backlog_items)
        quotas.lock(session, account_id(), held.settings.max_items_per_day)
        job = make(session)
        quotas.check(session, account_id(), held.settings.max_items_per_day)
        if idempotency_key:
            idempotency.remember(session, idempotency_key, asked, job)
    held.poker.poke(job.id)
    return Accepted(job, replayed=False)


def check_backlog(idempotency_key: str | None) -> None:
    """Raises BacklogFull: asked before a body is read, so that nobody uploads for nothing. `accept` asks once more.

    A key that has made a job makes no other, and gets its answer.
    """
    held = stores()
    with held.database.read() as session:
        if not (idempotency_key and session.get(IdempotencyKey, (account_id(), idempotency_key))):
            jobs.check_backlog(session, account_id(), held.settings.max_backlog_items)


def _make_job(session: Session, submission: Submission) -> Job:
    source = submission.source
    if source is None:
        buckets.check(session, account_id(), [item.url for item in submission.items])
        uploads.check(session, account_id(), [item.upload for item in submission.items])
        chunk_items = stores().settings.chunk_items
        return jobs.submit(session, account_id(), submission.items, chunk_items, submission.name)
    if source.url is not None:
        place = buckets.parse_s3_prefix(source.url)
        if not buckets.allowed(session, account_id(), *place):
            raise BucketForbidden(buckets.forbidden(place), "/prefix")
    return expansion.submit(session, account_id(), source.kind, blob=source.blob, url=source.url, name=submission.name)


def _read_json(request: Request) -> Submission:
    request.max_content_length = min(JSON_BYTES, stores().settings.max_request_bytes)
    try:
        wanted = NewJob.model_validate_json(request.get_data(cache=False).removeprefix(BOM))
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            raise Malformed(f"the body is not JSON: {fault['msg'].removeprefix('Invalid JSON: ')}") from error
        raise
    if wanted.prefix is not None:
        return Submission(wanted.name, source=LongSource(SourceKind.PREFIX, url=wanted.prefix))
    items = wanted.items or []
    _check_count(len(items), "/items")
    return Submission(wanted.name, [item.new_item() for item in items])


def read_upload(request: Request) -> Submission:
    """The job of a multipart request: files under any name, and text fields name, custom_id and form_token."""
    submission = Submission()
    blobs: list[tuple[str, str]] = []  # file name, sha256
    custom_ids: list[str] = []
    for part in read_parts(request):
        if part.filename is None:
            _take_field(part, submission, custom_ids)
        else:
            _check_count(len(blobs) + 1, "/files")
            sha256 = _store(part)
            if sha256:
                blobs.append((part.filename, sha256))
    if custom_ids and len(custom_ids) != len(blobs):
        raise InvalidSubmission(f"{len(custom_ids)} custom_id fields for {len(blobs)} files", "/custom_id")
    names = custom_ids or [name for name, _ in blobs]
    submission.items = [NewItem(blob=blob, custom_id=name) for name, (_, blob) in zip(names, blobs, strict=True)]
    return submission


def _take_field(part: Part, submission: Submission, custom_ids: list[str]) -> None:
    text = part.text(FIELD_BYTES)
    match part.name:
        case "custom_id":
            custom_ids.append(_checked(_custom_id, text, f"/custom_id/{len(custom_ids)}"))
        case "name":
            submission.name = _checked(_name, text, "/name")
        case "form_token":
            submission.form_token = text
        case _:
            detail = f"the form has an unknown field {part.name!r}: there are name and custom_id, and the files"
            raise InvalidSubmission(detail, f"/{part.name}")


def _checked(kind: TypeAdapter[str], text: str, pointer: str) -> str:
    try:
        return kind.validate_python(text)
    except ValidationError as error:
        raise InvalidSubmission(error.errors()[0]["msg"], pointer) from error


def _store(part: Part) -> str | None:
    """Stream a file to the blobs; its sha256, or None for a form's file input in which no file was chosen."""
    limit = stores().settings.max_image_bytes
    name = part.filename or ""
    _checked(_custom_id, name, "/files")
    if not name and not part.body.peek(1):
        return None
    try:
        return stores().blobs.put(part.body, limit)
    except TooLarge as error:
        raise TooLargeUpload(f"the file {name!r} is larger than the limit of {limit} bytes") from error


def _check_count(count: int, pointer: str) -> None:
    most = stores().settings.max_items
    if count > most:
        raise InvalidSubmission(f"more than {most} items in one request: split it into more jobs", pointer)
