"""/openapi.json and /docs: the API's own description, and a page to browse and try it; nothing comes from elsewhere."""

from copy import deepcopy
from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, current_app, jsonify, render_template
from flask_openapi3.openapi import OpenAPI

from api.problems import PROBLEM_MEDIA_TYPE

blueprint = Blueprint(
    "docs",
    __name__,
    static_folder=Path(str(files("flask_openapi3_swagger"))) / "templates" / "swagger",
    static_url_path="/docs/assets",
)
# Swagger UI draws its icons from data: URLs in its style sheet, and sets styles from its script.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


@blueprint.get("/openapi.json")
def document() -> Response:
    """The OpenAPI 3.1 document."""
    assert isinstance(current_app, OpenAPI)  # noqa: S101
    described = deepcopy(current_app.api_doc)  # the library makes it once, and keeps it
    for path in described["paths"].values():
        for operation in path.values():
            # The library gives a 422 of its own to every route, also to those that have nothing to refuse.
            if PROBLEM_MEDIA_TYPE not in operation["responses"]["422"]["content"]:
                del operation["responses"]["422"]
    return jsonify(described)


@blueprint.get("/docs")
def page() -> Response:
    """Swagger UI over that document."""
    response = Response(render_template("docs.html"), mimetype="text/html")
    response.headers["Content-Security-Policy"] = POLICY
    return response
