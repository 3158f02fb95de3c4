"""/v1/cases and /v1/decisions: what awaits a human, answers to it, and what was decided, as training data."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from api import case_schemas as schemas
from api.auth import account_id, actor, requires
from api.bodies import check_json
from api.problems import PROBLEMS, problem
from api.results import Form, stream_rows
from api.stores import stores
from shield import cases, claims, decisions, models
from shield.claims import Reviewer
from shield.decisions import Ruling
from shield.states import Answer, Role, Scope

Decided = tuple[models.Case, models.Decision]

blueprint = APIBlueprint(
    "cases",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="cases", description="Items that await a human, and what was decided.")],
    abp_security=[{"key": []}],
    abp_responses=PROBLEMS,
)
blueprint.before_request(requires(Scope.REVIEW, Scope.REVIEW))
blueprint.before_request(check_json)


def _line(row: Decided) -> str:
    return schemas.DecidedCase.of(*row).model_dump_json() + "\n"


LINES: Form[Decided] = Form("application/jsonl", "", _line)


@blueprint.get("/cases", operation_id="list_cases", responses={200: schemas.CaseList, **problem(422)})
def queue(query: schemas.CaseQuery) -> Response:
    """List cases, the most urgent first.

    Those that were escalated, then fakes, then suspects, each by falling score; what was drawn for the sample last.
    """
    with stores().database.read() as session:
        rows = cases.queue(session, account_id(), Role.LEAD, query.limit + 1, query.sort, query.narrowed(), query.after)
    page = [schemas.Case.of(row) for row in rows[: query.limit]]
    first, last = (page[0].id, page[-1].id) if page else (None, None)
    return _json(schemas.CaseList(data=page, has_more=len(rows) > query.limit, first_id=first, last_id=last))


@blueprint.get("/cases/<case_id>", operation_id="get_case", responses={200: schemas.WholeCase, **problem(404)})
def get(path: schemas.CasePath) -> Response:
    """Read a case: its item, and all that was answered to it."""
    with stores().database.read() as session:
        row = cases.get(session, account_id(), path.case_id)
        answers = decisions.history(session, account_id(), path.case_id)
    return _json(schemas.WholeCase.whole(row, answers))


@blueprint.post(
    "/cases/<case_id>/decision",
    operation_id="decide_case",
    responses={200: schemas.Decision, **problem(400, 404, 409, 413, 415, 422)},
)
def decide(path: schemas.CasePath, body: schemas.NewDecision) -> Response:
    """Answer a case that nobody else has claimed. A key may decide what was escalated."""
    ruling, reviewer = Ruling(Answer(body.answer), body.reason, body.note), Reviewer(actor(), Role.LEAD)
    with stores().database.write() as session:
        claim = claims.claim(session, account_id(), path.case_id, reviewer, stores().settings.claim_seconds)
        row = decisions.decide(session, account_id(), path.case_id, claim.token, ruling, reviewer)
        answer = schemas.Decision.model_validate(row)
    return _json(answer)


@blueprint.get(
    "/decisions",
    operation_id="export_decisions",
    responses={
        200: {
            "description": "One decision a line, the oldest first.",
            "content": {LINES.mimetype: {"schema": {"type": "string"}}},
        },
        **problem(422),
    },
)
def export(query: schemas.DecisionQuery) -> Response:
    """Stream what was decided.

    JSON Lines: for each decided case the decision that stands, its item, scores and all. What was undone is left out.
    """
    rows = decisions.export(stores().database, account_id(), query.since, query.until)
    return stream_rows(account_id(), rows, LINES)


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")
