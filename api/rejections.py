"""/v1/jobs/{job_id}/rejections: what of a job's source is no item, and why."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import schemas
from api.auth import account_id, requires
from api.problems import PROBLEMS, problem
from api.stores import stores
from shield import expansion, jobs
from shield.states import Scope

blueprint = APIBlueprint(
    "rejections",
    __name__,
    url_prefix="/v1/jobs/<job_id>/rejections",
    abp_tags=[Tag(name="jobs")],
    abp_security=[{"key": []}],
    abp_responses=PROBLEMS | problem(404, 422),
)
blueprint.before_request(requires(Scope.JOBS_READ, Scope.JOBS_WRITE))


@blueprint.get("", operation_id="list_rejections", responses={200: schemas.RejectionList})
def rejections(path: schemas.JobPath, query: schemas.RejectionQuery) -> Response:
    """List what of a job's source is no item.

    Lines of a manifest, members of a zip or keys under a prefix, counted from 1, in their order. The first thousand of
    a job are kept; its count `rejected` holds them all.
    """
    with stores().database.read() as session:
        job = jobs.get(session, account_id(), path.job_id)
        rows = expansion.rejections(session, job, query.limit + 1, query.after)
    page = [schemas.Rejection.model_validate(row) for row in rows[: query.limit]]
    first, last = (page[0].position, page[-1].position) if page else (None, None)
    found = schemas.RejectionList(data=page, has_more=len(rows) > query.limit, first_id=first, last_id=last)
    return Response(found.model_dump_json(), mimetype="application/json")
