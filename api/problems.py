"""How the OpenAPI document speaks of errors."""

from http import HTTPStatus
from typing import Any

from api.errors import PROBLEM_MEDIA_TYPE


def problem(*statuses: int) -> dict[str | int | HTTPStatus, Any]:
    """Responses with a problem document, for these statuses."""
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


PROBLEMS = problem(401, 500, 503)  # any route that needs a key
