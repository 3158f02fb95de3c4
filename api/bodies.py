"""Small JSON bodies, looked at before a route takes them for its own."""

from flask import request
from werkzeug.exceptions import BadRequest

from api.auth import check_again
from api.errors import Malformed, UnsupportedMediaType

BODY_BYTES = 64 * 1024


def check_json() -> None:
    """Raises UnsupportedMediaType, Malformed and RequestEntityTooLarge, and what `check_again` raises.

    A request without a body passes.
    """
    request.max_content_length = BODY_BYTES
    if request.content_length and not request.is_json:
        raise UnsupportedMediaType("send application/json")
    if request.content_length or request.is_json:
        try:
            request.get_json()
        except (BadRequest, RecursionError) as error:  # the latter where it is too deep for the parser
            raise Malformed("the body is not JSON") from error
        check_again()
