"""The pages behind the front door: a job's photos with their faces boxed and scored. They work without JavaScript."""

from typing import Annotated, NamedTuple

from flask import Blueprint, Response, redirect, render_template, request
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as AnyResponse

from api.auth import account_id, check_form_token, require_session
from api.items import view_of
from api.jobs import stream_results
from api.schemas import ITEM_ID, ItemPath, JobPath
from api.shown import ShownItem
from api.stores import stores
from api.submissions import Submission, accept, read_upload
from api.words import JOB_STATES, STATES, VERDICTS, photos
from shield import jobs
from shield.models import Job
from shield.states import ItemState, JobState, Verdict

PAGE = 48  # photos: fills rows of two, three and four
LARGER = 1.7  # how much larger than in the grid a photo is on its own page

blueprint = Blueprint("pages", __name__)


@blueprint.before_request
def _guard() -> None:
    """A session first; then ids that could be one: any other is as unknown as another account's."""
    require_session()
    given = request.view_args or {}
    for name, path in (("job_id", JobPath), ("item_id", ItemPath)):
        if name in given:
            path.model_validate(given)


class PhotoQuery(BaseModel):
    """Which photos of a job are shown."""

    model_config = ConfigDict(extra="ignore")

    after: Annotated[str, Field(pattern=ITEM_ID)] | None = None
    state: ItemState | None = None
    verdict: Verdict | None = None


@blueprint.post("/jobs")
def submit() -> AnyResponse:
    """Make a job of the photos that were dropped or chosen, and show it."""
    if request.mimetype != "multipart/form-data":
        raise BadRequest("Photos come as a form. Go back to the front page and choose some.")
    submission = read_upload(request)
    check_form_token(submission.form_token)
    submission.name = submission.name or _name_of(submission)
    return redirect(f"/jobs/{accept(submission).job.id}", 303)


def _name_of(submission: Submission) -> str:
    """The first photo's name, and how many more there are."""
    first = (submission.items[0].custom_id or "") if submission.items else ""
    more = len(submission.items) - 1
    return f"{first[:160]} and {more:,} more" if more > 0 else first[:200]


@blueprint.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    """A job: its progress, what was found, and its photos."""
    query = PhotoQuery.model_validate(request.args.to_dict())
    with stores().database.read() as session:
        row = jobs.get(session, account_id(), job_id)
        rows = jobs.items(session, row, PAGE + 1, query.after, query.state, query.verdict)
    shown = [ShownItem.of(item) for item in rows[:PAGE]]
    return render_template(
        "job.html",
        job=row,
        title=row.name or photos(row.total),
        state=JOB_STATES[JobState(row.state)],
        running=row.state != JobState.ENDED,
        filters=_filters(row, query),
        items=shown,
        narrowed=query.model_dump(mode="json", exclude_none=True, exclude={"after"}),
        after=query.after,
        next_after=shown[-1].id if len(rows) > PAGE else None,
    )


class Filter(NamedTuple):
    """A way to narrow the list of photos."""

    word: str
    photos: int
    query: str
    level: str
    chosen: bool


def _filters(row: Job, query: PhotoQuery) -> list[Filter]:
    """All photos, and each verdict and end that some of them have."""
    wanted = query.verdict or query.state
    ways: list[tuple[str, str, str]] = [(verdict, "verdict", words[0]) for verdict, words in VERDICTS.items()]
    ways += [(state, "state", STATES[state]) for state in (ItemState.FAILED, ItemState.CANCELED)]
    filters = [Filter(word, getattr(row, level), f"?{by}={level}", level, wanted == level) for level, by, word in ways]
    return [Filter("All", row.total, "", "all", wanted is None), *(f for f in filters if f.photos or f.chosen)]


@blueprint.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> AnyResponse:
    """Cancel a job, and show it."""
    check_form_token(request.form.get("form_token", ""))
    jobs.cancel(stores().database, account_id(), job_id)
    return redirect(f"/jobs/{job_id}", 303)


@blueprint.get("/jobs/<job_id>/results.jsonl")
def results(job_id: str) -> Response:
    """The results as a file, the same as the API's."""
    with stores().database.read() as session:
        row = jobs.get(session, account_id(), job_id)
    response = stream_results(row)
    response.headers["Content-Disposition"] = f'attachment; filename="{row.id}.jsonl"'
    return response


@blueprint.get("/items/<item_id>")
def item(item_id: str) -> str:
    """One photo, large, and each of its faces."""
    with stores().database.read() as session:
        row = jobs.item(session, account_id(), item_id)
    return render_template("item.html", item=ShownItem.of(row, LARGER), row=row)


@blueprint.get("/items/<item_id>/view")
def view(item_id: str) -> Response:
    """The picture of an item: the worker's JPEG, never an uploaded byte."""
    return view_of(item_id)
