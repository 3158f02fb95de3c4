"""Submissions: what a request brings becomes stored blobs, items and a job. For the API and the pages alike."""

from dataclasses import dataclass, field

from flask import Request
from pydantic import TypeAdapter, ValidationError

from api.auth import account_id
from api.errors import Malformed, TooLargeUpload, UnsupportedMediaType
from api.multipart import Part, read_parts
from api.schemas import CustomId, JobName, NewJob
from api.stores import stores
from shield import jobs
from shield.blobs import TooLarge
from shield.errors import InvalidSubmission, StorageUnavailable
from shield.jobs import NewItem
from shield.models import Job

JSON_BYTES = 32 * 1024 * 1024  # a JSON body is held in memory
FIELD_BYTES = 8 * 1024

_custom_id: TypeAdapter[str] = TypeAdapter(CustomId)
_name: TypeAdapter[str] = TypeAdapter(JobName)


@dataclass(slots=True)
class Submission:
    """What a request asks for, checked. `form_token` is the pages' proof that the form is theirs."""

    name: str = ""
    items: list[NewItem] = field(default_factory=list)
    form_token: str = ""


def read_submission(request: Request) -> Submission:
    """The job that a request of either media type asks for.

    Raises UnsupportedMediaType, Malformed, TooLargeUpload, InvalidSubmission, StorageUnavailable, and pydantic's
    ValidationError with a pointer to each fault.
    """
    if request.mimetype == "multipart/form-data":
        submission = read_upload(request)
        if not submission.items:
            raise InvalidSubmission("a job needs at least one file", "/files")
        return submission
    if request.mimetype == "application/json":
        return _read_json(request)
    raise UnsupportedMediaType("send multipart/form-data with files, or application/json with items")


def accept(submission: Submission) -> Job:
    """Make it a durable job of this request's account, then poke the queue. Raises StorageUnavailable."""
    held = stores()
    with held.database.write() as session:
        chunk_items = held.settings.chunk_items
        job = jobs.submit(session, account_id(), submission.items, chunk_items, submission.name)
    held.poker.poke(job.id)
    return job


def _read_json(request: Request) -> Submission:
    request.max_content_length = min(JSON_BYTES, stores().settings.max_request_bytes)
    try:
        wanted = NewJob.model_validate_json(request.get_data(cache=False))
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            raise Malformed(f"the body is not JSON: {fault['msg'].removeprefix('Invalid JSON: ')}") from error
        raise
    _check_count(len(wanted.items), "/items")
    return Submission(wanted.name, [NewItem(url=source.url, custom_id=source.custom_id) for source in wanted.items])


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
    except OSError as error:
        raise StorageUnavailable(f"the file {name!r} cannot be stored now: {error.strerror or error}") from error


def _check_count(count: int, pointer: str) -> None:
    most = stores().settings.max_items
    if count > most:
        raise InvalidSubmission(f"more than {most} items in one request: split it into more jobs", pointer)
