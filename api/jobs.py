"""/v1/jobs: submit, list, follow, cancel, retry, delete, read results."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api import schemas
from api.auth import account_id, actor, requires
from api.problems import PROBLEMS, problem
from api.results import JSONL, stream
from api.stores import stores
from api.submissions import Accepted, accept, check_backlog, make_once, read_submission
from shield import idempotency, jobs, models, retention
from shield.states import Scope

KEY: list[dict[str, list[Any]]] = [{"key": []}]  # an API key, in OpenAPI's words
SUBMISSION: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "files": {
                        "type": "array",
                        "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                        "description": "The images. Any field name will do.",
                    },
                    "name": {"type": "string", "maxLength": 200},
                    "custom_id": {
                        "type": "array",
                        "items": {"type": "string", "maxLength": 1024},
                        "description": "One for each file, in the same order. Absent: the file names.",
                    },
                },
                "required": ["files"],
            }
        },
        "application/json": {"schema": schemas.NewJob.model_json_schema(ref_template="#/components/schemas/{model}")},
        JSONL.mimetype: {
            "schema": {"type": "string", "description": "A manifest: an item of application/json a line."}
        },
        "application/zip": {"schema": {"type": "string", "contentMediaType": "application/zip"}},
    },
}
SUBMISSION["content"]["application/json"]["schema"].pop("$defs")

blueprint = APIBlueprint(
    "jobs",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="jobs", description="Many images, submitted together.")],
    abp_security=KEY,
    abp_responses=PROBLEMS,
)
blueprint.before_request(requires(Scope.JOBS_READ, Scope.JOBS_WRITE))


@blueprint.post(
    "",
    operation_id="submit_job",
    responses={202: schemas.Job, **problem(400, 403, 408, 413, 415, 422)},
    openapi_extensions={"requestBody": SUBMISSION},
)
def submit(header: schemas.SubmitHeader, query: schemas.SubmitQuery) -> Response:
    """Submit images.

    As files, as items by URL or upload, or as a source that is expanded later: a manifest, a zip, an S3 prefix. A 202
    means that the job is durable: every image of it will reach one result. Images are not looked into here: what is
    none becomes an item that failed, and its neighbours are scanned.
    """
    check_backlog(header.key)
    return _accepted(accept(read_submission(request, query.name), header.key))


@blueprint.get("", operation_id="list_jobs", responses={200: schemas.JobList, **problem(422)})
def newest(query: schemas.JobQuery) -> Response:
    """List jobs, newest first."""
    with stores().database.read() as session:
        rows = jobs.newest(session, account_id(), query.limit + 1, query.after)
    page = [_shown(row) for row in rows[: query.limit]]
    first, last = _ends(page)
    return _json(schemas.JobList(data=page, has_more=len(rows) > query.limit, first_id=first, last_id=last))


@blueprint.get("/<job_id>", operation_id="get_job", responses={200: schemas.Job, **problem(404)})
def get(path: schemas.JobPath) -> Response:
    """Follow a job."""
    return _json(_shown(_job(path)))


@blueprint.get("/<job_id>/items", operation_id="list_items", responses={200: schemas.ItemList, **problem(404, 422)})
def items(path: schemas.JobPath, query: schemas.ItemQuery) -> Response:
    """List the items of a job.

    In the order of its submission, whatever their state; `state` and `verdict` narrow the list.
    """
    with stores().database.read() as session:
        job = jobs.get(session, account_id(), path.job_id)
        rows = jobs.items(session, job, query.limit + 1, query.after, query.state, query.verdict)
    page = [schemas.Item.of(row) for row in rows[: query.limit]]
    first, last = _ends(page)
    return _json(schemas.ItemList(data=page, has_more=len(rows) > query.limit, first_id=first, last_id=last))


@blueprint.get(
    "/<job_id>/results",
    operation_id="stream_results",
    responses={
        200: {
            "description": "One item a line, in the order of the submission.",
            "content": {JSONL.mimetype: {"schema": {"type": "string"}}},
        },
        **problem(404),
    },
)
def results(path: schemas.JobPath) -> Response:
    """Stream the results of a job.

    JSON Lines: one item a line. While the job runs, the items that have a result so far.
    """
    return stream(_job(path), JSONL)


@blueprint.post("/<job_id>/cancel", operation_id="cancel_job", responses={200: schemas.Job, **problem(404)})
def cancel(path: schemas.JobPath) -> Response:
    """Cancel a job.

    Waiting items are canceled at once; those that a worker holds are finished. A job that has ended stays as it is.
    """
    return _json(_shown(jobs.cancel(stores().database, account_id(), path.job_id)))


@blueprint.post(
    "/<job_id>/retry",
    operation_id="retry_job",
    responses={202: schemas.Job, **problem(404, 409, 422)},
)
def retry(path: schemas.JobPath, header: schemas.SubmitHeader) -> Response:
    """Retry the items of a job that failed.

    Makes a new job of them, with the same custom ids; the old one stays as it is. Its items are not sent again: their
    bytes are still stored, their URLs are fetched once more.
    """
    chunk_items = stores().settings.chunk_items

    def make(session: Session) -> models.Job:
        return jobs.retry(session, account_id(), path.job_id, chunk_items)

    return _accepted(make_once(make, idempotency.fingerprint({"retry_of": path.job_id}), header.key))


@blueprint.delete(
    "/<job_id>",
    operation_id="delete_job",
    responses={204: {"description": "It is deleted."}, **problem(404, 409)},
)
def delete(path: schemas.JobPath) -> Response:
    """Delete a job that has ended.

    Nobody sees it from then on, nor its items; its rows and images are removed for good a day later.
    """
    with stores().database.write() as session:
        retention.delete_job(session, account_id(), path.job_id, actor())
    return Response(status=HTTPStatus.NO_CONTENT)


def _job(path: schemas.JobPath) -> models.Job:
    with stores().database.read() as session:
        return jobs.get(session, account_id(), path.job_id)


def _shown(row: models.Job) -> schemas.Job:
    return schemas.Job.of(row, datetime.now(UTC), stores().settings.retention_days)


def _accepted(accepted: Accepted) -> Response:
    job = _shown(accepted.job)
    replayed = {"Idempotent-Replayed": "true"} if accepted.replayed else {}
    return _json(job, HTTPStatus.ACCEPTED, Location=job.links.self, **replayed)


def _ends(page: list[schemas.Job] | list[schemas.Item]) -> tuple[str | None, str | None]:
    return (page[0].id, page[-1].id) if page else (None, None)


def _json(body: BaseModel, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Response:
    return Response(body.model_dump_json(), status, headers, mimetype="application/json")
