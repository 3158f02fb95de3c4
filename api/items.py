"""/v1/items: one image and its result, and the picture of it that may be shown."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import schemas
from api.auth import account_id, requires
from api.problems import PROBLEMS, problem
from api.stores import stores
from shield import jobs
from shield.errors import NotFound
from shield.states import Scope

blueprint = APIBlueprint(
    "items",
    __name__,
    url_prefix="/v1/items",
    abp_tags=[Tag(name="items", description="One image in a job.")],
    abp_security=[{"key": []}],
    abp_responses=PROBLEMS | problem(404),
)
blueprint.before_request(requires(Scope.JOBS_READ, Scope.JOBS_WRITE))


@blueprint.get("/<item_id>", operation_id="get_item", responses={200: schemas.Item})
def get(path: schemas.ItemPath) -> Response:
    """Read an item and its result."""
    with stores().database.read() as session:
        row = jobs.item(session, account_id(), path.item_id)
    return Response(schemas.Item.of(row).model_dump_json(), mimetype="application/json")


@blueprint.get(
    "/<item_id>/view",
    operation_id="view_item",
    responses={200: {"description": "The picture.", "content": {"image/jpeg": {"schema": {}}}}},
)
def view(path: schemas.ItemPath) -> Response:
    """See an item.

    A small JPEG of the upright image, made anew by the worker: never a byte that was uploaded, and no metadata.
    """
    return view_of(path.item_id)


def view_of(item_id: str) -> Response:
    """The view of an item of this request's account. Raises NotFound where there is none, or none yet."""
    with stores().database.read() as session:
        blob = jobs.item(session, account_id(), item_id).view_blob
    if blob is None:
        raise NotFound(f"no view of item {item_id}: it is not scanned yet, or could not be decoded")
    return picture(blob, "image/jpeg")


def picture(blob: str, mimetype: str) -> Response:
    """A picture that a worker made, from its blob."""
    response = Response(stores().blobs.get(blob), mimetype=mimetype)
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return response
