"""Problem documents (RFC 9457), and how the OpenAPI document speaks of them."""

from http import HTTPStatus
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError

from shield.errors import ShieldError

PROBLEM_MEDIA_TYPE = "application/problem+json"


LOCKED_DOWN = {  # headers of every answer, whoever gives it
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Fault(BaseModel):
    """What is wrong at one place of the request; `pointer` is a JSON pointer (RFC 6901), `/limit` for ?limit=."""

    pointer: str = Field(examples=["/items/3/url"])
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it. Rely on `code`; `detail` is for people and may change."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(examples=["invalid_submission"])
    detail: str
    errors: list[Fault] | None = None

    @classmethod
    def of_a_bug(cls) -> Self:
        """What is said of a fault of ours: nothing that a stranger could use."""
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        detail = "something went wrong on our side; the log of the API has the details"
        return cls(title=status.phrase, status=status, code=ShieldError.code, detail=detail)


def faults_of(error: ValidationError) -> list[Fault]:
    """What pydantic found, with JSON pointers."""
    return [Fault(pointer=_pointer(fault["loc"]), detail=fault["msg"]) for fault in error.errors(include_url=False)]


def _pointer(places: tuple[Any, ...]) -> str:
    return "".join("/" + str(place).replace("~", "~0").replace("/", "~1") for place in places)


def problem(*statuses: int) -> dict[str | int | HTTPStatus, Any]:
    """Responses with a problem document, for these statuses."""
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


PROBLEMS = problem(401, 403, 429, 500, 503)  # any route that needs a key
