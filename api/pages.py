"""The pages behind the front door: photos are sent, and a job's are looked at, boxed and scored.

They work without JavaScript.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from flask import Blueprint, Response, redirect, render_template, request, url_for
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as AnyResponse

from api.auth import account_id, actor, check_form_token, require_session
from api.items import view_of
from api.results import CSV, JSONL, Form, stream
from api.schemas import ITEM_ID, ItemPath, JobPath, SubmitHeader, seconds_left
from api.shown import ShownItem
from api.stores import stores
from api.submissions import Submission, accept, check_backlog, make_once, read_submission, read_upload
from api.uploads import MOST, signed_path
from api.words import JOB_STATES, STATES, VERDICTS, left, photos
from shield import gallery, jobs, retention, uploads
from shield.gallery import Look
from shield.items import CLEAN
from shield.models import Item, Job
from shield.states import ItemState, JobState, Role, Verdict

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
    """Which photos of a job are shown, and in which order."""

    model_config = ConfigDict(extra="ignore")

    after: Annotated[str, Field(pattern=ITEM_ID)] | None = None
    state: ItemState | None = None
    verdict: Verdict | None = None
    search: Annotated[str, StringConstraints(max_length=200, pattern=CLEAN, strip_whitespace=True)] = ""
    sort: Annotated[str, Field(pattern="^(score)?$")] = ""

    def look(self) -> Look:
        """The same for the gallery."""
        return Look(self.state, self.verdict, self.search, self.sort == "score")

    def given(self, **changes: object) -> dict[str, Any]:
        """What a link says to show the same, with these changes, from the first photo on."""
        asked = self.model_copy(update={"after": None, **changes})
        return asked.model_dump(mode="json", exclude_defaults=True)


class UploadQuery(BaseModel):
    """How many photos are about to be sent."""

    count: int = Field(ge=1, le=MOST)


@blueprint.post("/uploads")
def upload() -> dict[str, list[dict[str, str]]]:
    """Make uploads, for a script that sends photos one by one: each has an id, and a path to PUT its bytes to."""
    _check_script()
    wanted = UploadQuery.model_validate(request.args.to_dict())
    check_backlog(None)
    held = stores()
    with held.database.write() as session:
        rows = uploads.create(session, account_id(), wanted.count, held.settings.upload_hours)
    return {"uploads": [{"id": row.id, "path": signed_path(row)} for row in rows]}


@blueprint.post("/jobs")
def submit() -> AnyResponse:
    """Make a job, and show it: of a form with photos, or of JSON, as the API has it, that names uploads."""
    key = None
    if request.mimetype == "application/json":
        _check_script()
        submission = read_submission(request)
        key = SubmitHeader.model_validate(dict(request.headers)).key
    elif request.mimetype == "multipart/form-data":
        submission = read_upload(request)
        check_form_token(submission.form_token)
    else:
        raise BadRequest("Photos come as a form. Go back to the front page and choose some.")
    submission.name = submission.name or _name_of(submission)
    return _show(accept(submission, key).job.id)


def _check_script() -> None:
    """Raises Forged unless a script of our own page sends this."""
    check_form_token(request.headers.get("X-Form-Token", ""))


def _name_of(submission: Submission) -> str:
    """The first photo's name, and how many more there are."""
    first = (submission.items[0].custom_id or "") if submission.items else ""
    more = len(submission.items) - 1
    return f"{first[:160]} and {more:,} more" if more > 0 else first[:200]


@blueprint.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    """A job: its progress, what was found, and its photos."""
    query = PhotoQuery.model_validate(request.args.to_dict())
    held = stores()
    with held.database.read() as session:
        row = jobs.get(session, account_id(), job_id)
        rows = gallery.items(session, row, query.look(), PAGE + 1, query.after)
    shown = [ShownItem.of(item) for item in rows[:PAGE]]
    seconds = seconds_left(row, datetime.now(UTC))
    return render_template(
        "job.html",
        job=row,
        title=row.name or photos(row.total),
        state=JOB_STATES[JobState(row.state)],
        running=row.state != JobState.ENDED,
        left="" if seconds is None else left(seconds),
        expires_at=retention.expires_at(row, held.settings.retention_days),
        filters=_filters(row, query),
        query=query,
        sortable=gallery.sortable(row, query.look()),
        items=shown,
        next_after=shown[-1].id if len(rows) > PAGE else None,
    )


class Filter(NamedTuple):
    """A way to narrow the list of photos."""

    word: str
    photos: int
    url: str
    level: str
    chosen: bool


def _filters(row: Job, query: PhotoQuery) -> list[Filter]:
    """All photos, and each verdict and end that some of them have."""
    filters = [_filter(row, query, "All", "total")]
    filters += [_filter(row, query, words[0], verdict, verdict=verdict) for verdict, words in VERDICTS.items()]
    ends = (ItemState.FAILED, ItemState.CANCELED)
    filters += [_filter(row, query, STATES[state], state, state=state) for state in ends]
    return [each for each in filters if each.photos or each.chosen]


def _filter(
    row: Job,
    query: PhotoQuery,
    word: str,
    level: str,
    verdict: Verdict | None = None,
    state: ItemState | None = None,
) -> Filter:
    given = query.given(verdict=verdict, state=state)
    chosen = (query.verdict, query.state) == (verdict, state)
    return Filter(word, getattr(row, level), url_for("pages.job", job_id=row.id, **given), level, chosen)


@blueprint.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> AnyResponse:
    """Cancel a job, and show it."""
    check_form_token(request.form.get("form_token", ""))
    return _show(jobs.cancel(stores().database, account_id(), job_id).id)


@blueprint.post("/jobs/<job_id>/retry")
def retry(job_id: str) -> AnyResponse:
    """Make a new job of the photos that could not be scanned, and show that."""
    check_form_token(request.form.get("form_token", ""))

    def make(session: Session) -> Job:
        return jobs.retry(session, account_id(), job_id, stores().settings.chunk_items)

    return _show(make_once(make, "", None).job.id)


@blueprint.post("/jobs/<job_id>/delete")
def delete(job_id: str) -> AnyResponse:
    """Delete a job that has ended, and show the others. An admin's to do: it takes photos and decisions with it."""
    require_session(Role.ADMIN)
    check_form_token(request.form.get("form_token", ""))
    with stores().database.write() as session:
        retention.delete_job(session, account_id(), job_id, actor())
    return redirect("/", 303)


def _show(job_id: str) -> AnyResponse:
    return redirect(f"/jobs/{job_id}", 303)


@blueprint.get("/jobs/<job_id>/results.jsonl")
def results(job_id: str) -> Response:
    """The results as a file, the same as the API's."""
    return _file(job_id, "jsonl", JSONL)


@blueprint.get("/jobs/<job_id>/results.csv")
def table(job_id: str) -> Response:
    """The results as a file for spreadsheets."""
    return _file(job_id, "csv", CSV)


def _file(job_id: str, ending: str, form: Form[Item]) -> Response:
    with stores().database.read() as session:
        row = jobs.get(session, account_id(), job_id)
    response = stream(row, form)
    response.headers["Content-Disposition"] = f'attachment; filename="{row.id}.{ending}"'
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
