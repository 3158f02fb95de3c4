"""/healthz and /readyz: for those who watch the process, without a key."""

from http import HTTPStatus

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from sqlalchemy import text

from api.schemas import Health, Readiness
from api.stores import stores
from shield.errors import StorageUnavailable

blueprint = APIBlueprint(
    "health", __name__, abp_tags=[Tag(name="health", description="For load balancers and supervisors.")]
)


@blueprint.get("/healthz", operation_id="health", responses={200: Health})
def health() -> Response:
    """Whether the process is alive.

    Looks at nothing else: a process without a database is not mended by a restart.
    """
    return Response(Health(state="alive").model_dump_json(), mimetype="application/json")


@blueprint.get("/readyz", operation_id="readiness", responses={200: Readiness, 503: Readiness})
def readiness() -> Response:
    """Whether work is accepted.

    503 without the database, or when nothing can be written to the blob store. Without the queue the answer is 200 and
    `degraded`: work is accepted and kept in the database, where the workers find it, a few seconds later than usual.
    """
    database, storage, queue = _database_is_up(), _storage_is_up(), stores().pulse.beats()
    accepting = database and storage
    state = "down" if not accepting else "ready" if queue else "degraded"
    body = Readiness(state=state, database=_word(database), storage=_word(storage), queue=_word(queue))
    status = HTTPStatus.OK if accepting else HTTPStatus.SERVICE_UNAVAILABLE
    return Response(body.model_dump_json(), status, mimetype="application/json")


def _database_is_up() -> bool:
    try:
        with stores().database.read() as session:
            session.execute(text("select 1 from account where 1 = 0"))
    except StorageUnavailable:
        return False
    return True


def _storage_is_up() -> bool:
    try:
        stores().blobs.probe()
    except StorageUnavailable:
        return False
    return True


def _word(up: bool) -> str:
    return "up" if up else "down"
