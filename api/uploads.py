"""/v1/uploads: signed URLs to which images are put before they are submitted.

On S3 such a URL leads to the bucket, and the bytes do not pass here. Otherwise it leads here, and its signature is its
only key: whoever is handed the URL can store one image and do nothing else.
"""

import hashlib
import hmac
import time
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Response, current_app, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.auth import account_id, check_again, requires
from api.errors import Malformed, TooLargeUpload, UnsupportedMediaType
from api.problems import PROBLEMS, problem
from api.sources import BOM
from api.stores import stores
from shield import models, uploads
from shield.blobs import TooLarge
from shield.errors import UploadUrlExpired, UploadUrlInvalid
from shield.states import Scope

MOST = 1000  # uploads made in one request
BODY_BYTES = 1024


class NewUploads(BaseModel):
    """How many uploads to make."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(1, ge=1, le=MOST)


class Upload(BaseModel):
    """Where to send an image: its bytes as the body of a request with this method, this URL and these headers."""

    id: str = Field(examples=["upl_019aa0b1c2d0123456789abcdef"], description="What a job names the image by.")
    url: str = Field(description="Secret, and no API key goes with it.")
    method: str = Field("PUT")
    headers: dict[str, str] = Field({}, description="To send along.")
    expires_at: datetime = Field(description="Until then the URL can be used, once or again.")


class UploadList(BaseModel):
    """New uploads."""

    data: list[Upload]


class ContentPath(BaseModel):
    """The upload that the URL is signed for."""

    upload_id: str


class ContentQuery(BaseModel):
    """What makes the URL a signed one."""

    expires: str = Field("", description="Seconds since 1970.")
    signature: str = ""


TAG = Tag(name="uploads", description="Images that are stored before they are submitted.")
blueprint = APIBlueprint(
    "uploads",
    __name__,
    url_prefix="/v1/uploads",
    abp_tags=[TAG],
    abp_security=[{"key": []}],
    abp_responses=PROBLEMS,
)
blueprint.before_request(requires(Scope.JOBS_READ, Scope.JOBS_WRITE))
content = APIBlueprint(
    "content", __name__, url_prefix="/v1/uploads", abp_tags=[TAG], abp_responses=problem(400, 403, 408, 413, 500, 503)
)
NEW: dict[str, Any] = {"required": False, "content": {"application/json": {"schema": NewUploads.model_json_schema()}}}
BYTES: dict[str, Any] = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}


@blueprint.post(
    "",
    operation_id="create_uploads",
    responses={201: UploadList, **problem(400, 413, 415, 422)},
    openapi_extensions={"requestBody": NEW},
)
def create() -> Response:
    """Make uploads.

    Send each image to its URL, then submit a job whose items name the uploads. Nothing is looked at before that: an
    upload to which nothing was sent becomes an item that failed.
    """
    held, wanted = stores(), _wanted()
    with held.database.write() as session:
        rows = uploads.create(session, account_id(), wanted.count, held.settings.upload_hours)
    made = UploadList(data=[Upload(id=row.id, url=_url(row), expires_at=row.expires_at) for row in rows])
    return Response(made.model_dump_json(), HTTPStatus.CREATED, mimetype="application/json")


@content.put(
    "/<upload_id>/content",
    operation_id="put_upload",
    responses={204: {"description": "It is stored."}},
    openapi_extensions={"requestBody": BYTES},
)
def put(path: ContentPath, query: ContentQuery) -> Response:
    """Store an upload.

    The signed URL of an upload, where images are not stored in S3; it needs no key. The body is the image, whatever its
    Content-Type says. It takes the place of what was sent to the URL before.
    """
    if not hmac.compare_digest(_signature(path.upload_id, query.expires).encode(), query.signature.encode()):
        raise UploadUrlInvalid("this is not the URL that POST /v1/uploads gave: use it unchanged")
    if int(query.expires) <= time.time():
        raise UploadUrlExpired("the URL of this upload has expired: make another with POST /v1/uploads")
    limit = stores().settings.max_image_bytes
    try:
        stores().blobs.put_upload(path.upload_id, request.stream, limit)
    except TooLarge as error:
        raise TooLargeUpload(f"the image is {error}") from error
    return Response(status=HTTPStatus.NO_CONTENT)


def _wanted() -> NewUploads:
    """What the body asks for; without a body, one upload."""
    request.max_content_length = BODY_BYTES
    body = request.get_data(cache=False).removeprefix(BOM)
    check_again()
    if not body:
        return NewUploads()
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send application/json, or no body for one upload")
    try:
        return NewUploads.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            raise Malformed(f"the body is not JSON: {fault['msg'].removeprefix('Invalid JSON: ')}") from error
        raise


def _url(row: models.Upload) -> str:
    """The store's own URL for these bytes, or ours."""
    seconds = int((row.expires_at - row.created_at).total_seconds())
    return stores().blobs.upload_url(row.id, seconds) or request.host_url.removesuffix("/") + signed_path(row)


def signed_path(row: models.Upload) -> str:
    """Where we take these bytes ourselves, whatever the store, with its signature."""
    expires = str(int(row.expires_at.timestamp()))
    query = urlencode({"expires": expires, "signature": _signature(row.id, expires)})
    return f"/v1/uploads/{row.id}/content?{query}"


def _signature(upload_id: str, expires: str) -> str:
    """The HMAC of one upload's URL, by the key that also signs sessions; the words before keep the two apart."""
    key = str(current_app.secret_key).encode()
    return hmac.new(key, f"shield upload {upload_id} {expires}".encode(), hashlib.sha256).hexdigest()
