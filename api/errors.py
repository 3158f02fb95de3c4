"""Errors on the wire: RFC 9457 problem+json with a stable `code`. A person's browser gets a page instead."""

import logging
import math
from http import HTTPStatus

from flask import Flask, Response, render_template, request
from gunicorn.http.errors import ParseException
from pydantic import ValidationError
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestTimeout

from api.clients import TooManySlow
from api.problems import PROBLEM_MEDIA_TYPE, Fault, Problem, faults_of
from shield.errors import (
    AlreadyDecided,
    BacklogFull,
    BlobMissing,
    BucketForbidden,
    CaseTaken,
    ClaimLost,
    DraftChanged,
    EndpointDisabled,
    IdempotencyKeyReused,
    InvalidSubmission,
    JobRunning,
    NotFound,
    NothingToExplain,
    NothingToRetry,
    NothingToUndo,
    RateLimited,
    ScopeMissing,
    ShieldError,
    StorageUnavailable,
    Unauthorised,
    UploadUrlExpired,
    UploadUrlInvalid,
)

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
SLOW_SECONDS = 10.0  # to wait for while too many clients of one account are slow
BACKLOG_SECONDS = 60  # to wait for while too many items wait: workers need minutes, not seconds
HTTP_STATUS: dict[type[ShieldError], HTTPStatus] = {
    InvalidSubmission: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    CaseTaken: HTTPStatus.CONFLICT,
    ClaimLost: HTTPStatus.CONFLICT,
    AlreadyDecided: HTTPStatus.CONFLICT,
    NothingToUndo: HTTPStatus.CONFLICT,
    JobRunning: HTTPStatus.CONFLICT,
    NothingToRetry: HTTPStatus.CONFLICT,
    DraftChanged: HTTPStatus.CONFLICT,
    EndpointDisabled: HTTPStatus.CONFLICT,
    NothingToExplain: HTTPStatus.CONFLICT,
    IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    BacklogFull: HTTPStatus.SERVICE_UNAVAILABLE,
    Unauthorised: HTTPStatus.UNAUTHORIZED,
    ScopeMissing: HTTPStatus.FORBIDDEN,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    StorageUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    BlobMissing: HTTPStatus.INTERNAL_SERVER_ERROR,
    BucketForbidden: HTTPStatus.FORBIDDEN,
    UploadUrlInvalid: HTTPStatus.FORBIDDEN,
    UploadUrlExpired: HTTPStatus.FORBIDDEN,
}
# Codes of what the web framework refuses by itself.
CODES = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "request_timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.REQUEST_URI_TOO_LONG: "uri_too_long",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "headers_too_large",
}
INVALID_REQUEST = "invalid_request"
# Blueprints that people look at.
PAGES = ("entrance", "pages", "manage", "policy", "webhook_pages", "review", "explanations")


class TooLargeUpload(ShieldError):
    """A file or a body over its limit."""

    code = CODES[HTTPStatus.REQUEST_ENTITY_TOO_LARGE]


class UnsupportedMediaType(ShieldError):
    """A body of a type that is not read here."""

    code = CODES[HTTPStatus.UNSUPPORTED_MEDIA_TYPE]


class Malformed(ShieldError):
    """A body that does not parse."""

    code = "malformed_body"


class Forged(ShieldError):
    """A form without its token: sent from another site, or from a page that is out of date."""

    code = CODES[HTTPStatus.FORBIDDEN]


HTTP_STATUS |= {
    TooLargeUpload: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Malformed: HTTPStatus.BAD_REQUEST,
    Forged: HTTPStatus.FORBIDDEN,
}


def install(app: Flask) -> None:
    """Answer every error of this app in one shape."""
    app.register_error_handler(ShieldError, _shield_error)
    app.register_error_handler(ValidationError, invalid_request)
    app.register_error_handler(ClientDisconnected, _cut_short)
    app.register_error_handler(ParseException, _malformed)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _bug)


def invalid_request(error: ValidationError) -> Response:
    """422 with a pointer to each fault. A malformed id in a path is an unknown id."""
    if error.title.endswith("Path"):
        fault = error.errors()[0]
        noun = str(fault["loc"][0]).removesuffix("_id")
        return _shield_error(NotFound(f"no {noun} {fault['input']} in this account"))
    faults = faults_of(error)
    detail = "; ".join(f"{fault.pointer or 'the body'}: {fault.detail}" for fault in faults[:3])
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, INVALID_REQUEST, detail, faults)


def status_of(error: ShieldError) -> HTTPStatus | None:
    """What an error is answered with; None for one that no request should meet."""
    return next((HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS), None)


def _shield_error(error: ShieldError) -> Response:
    status = status_of(error)
    if status is None:
        return _bug(error)
    faults = None
    if isinstance(error, InvalidSubmission | BucketForbidden):
        faults = [Fault(pointer=error.pointer, detail=str(error))]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s %s: %s", request.method, _route(), error)
    response = _answer(status, error.code, str(error), faults)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="Deepfake Shield"'
    if isinstance(error, RateLimited):
        response.headers["Retry-After"] = str(math.ceil(error.seconds))
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        seconds = BACKLOG_SECONDS if isinstance(error, BacklogFull) else RETRY_AFTER_SECONDS
        response.headers["Retry-After"] = str(seconds)
    return response


def _cut_short(error: ClientDisconnected) -> Response:
    if isinstance(error.__context__, TooManySlow):
        detail = "others wait, and too many bodies of this account come slowly: send fewer at a time"
        return _shield_error(RateLimited(detail, SLOW_SECONDS))
    if isinstance(error.__context__, TimeoutError):
        return _http_error(RequestTimeout("the body arrived too slowly: send the whole request again"))
    return _shield_error(Malformed("the body ended before it was whole: send the whole request again"))


def _malformed(error: ParseException) -> Response:
    return _shield_error(Malformed(f"the body is not in the chunks that Transfer-Encoding promised: {error}"))


def _http_error(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    response = _answer(status, CODES.get(status, status.phrase.lower().replace(" ", "_")), _detail(error, status))
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = error.get_response().headers.get("Allow", "")
    return response


def _detail(error: HTTPException, status: HTTPStatus) -> str:
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return f"the request is larger than the limit of {request.max_content_length} bytes: split it into more jobs"
    if status == HTTPStatus.NOT_FOUND:
        return f"there is nothing at {request.path}; /docs lists what there is"
    return error.description or status.phrase


def _bug(error: Exception) -> Response:
    log.error("%s %s failed", request.method, _route(), exc_info=error)
    return _shown(Problem.of_a_bug())


def _route() -> str:
    """The route for the log: never the path itself, which may hold an unspent link."""
    return str(request.url_rule or "an unknown route")


def _answer(status: HTTPStatus, code: str, detail: str, faults: list[Fault] | None = None) -> Response:
    """A problem document; for a person's browser, a page that says the same."""
    return _shown(Problem(title=status.phrase, status=status, code=code, detail=detail, errors=faults))


def _shown(problem: Problem) -> Response:
    if _asked_by_a_person():
        return Response(render_template("error.html", problem=problem), problem.status, mimetype="text/html")
    return Response(problem.model_dump_json(exclude_none=True), problem.status, mimetype=PROBLEM_MEDIA_TYPE)


def _asked_by_a_person() -> bool:
    if request.blueprint in PAGES:  # all but the scripts of our pages
        return PROBLEM_MEDIA_TYPE not in request.accept_mimetypes.values()
    if request.blueprint:
        return False
    wanted = request.accept_mimetypes.best_match((PROBLEM_MEDIA_TYPE, "text/html"))
    return wanted == "text/html" and not request.path.startswith("/v1/")
