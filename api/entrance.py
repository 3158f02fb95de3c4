"""The front door: `/`, the one-time links that open a session, and the way out."""

from http import HTTPStatus

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response

from api.auth import account_id, check_form_token, end_session, open_session, require_session
from api.limits import check_sign_in, network
from api.schemas import JobQuery
from api.stores import stores
from api.words import JOB_STATES, VERDICTS, photos
from shield import accounts, jobs, moderators
from shield.errors import Unauthorised
from shield.models import Job
from shield.states import JobState

RECENT = 12  # jobs on a page
FORM_BYTES = 4 * 1024  # a form of one token
COARSE = (24, 48)  # bits of an address that the audit log keeps for good: where an attack comes from, not who sat where

blueprint = Blueprint("entrance", __name__)


@blueprint.get("/")
def front() -> str:
    """Where photos are dropped, and jobs; for a browser without a session, how to get one."""
    try:
        require_session()
    except Unauthorised:
        return render_template("welcome.html")
    held = stores()
    after = JobQuery(after=request.args.get("after")).after
    with held.database.read() as db:
        rows = jobs.newest(db, account_id(), RECENT + 1, after)
    return render_template(
        "front.html",
        jobs=[(job, summary(job)) for job in rows[:RECENT]],
        after=after,
        next_after=rows[RECENT - 1].id if len(rows) > RECENT else None,
        running=any(job.state != JobState.ENDED for job in rows[:RECENT]),
        photo_bytes=held.settings.max_image_bytes,
        photos=held.settings.max_items,
    )


def summary(job: Job) -> str:
    """A job in a line: how many photos, what was found, or how far it is."""
    if job.state != JobState.ENDED:
        return f"{photos(job.total)} · {JOB_STATES[JobState(job.state)]}, {job.total - job.pending} done"
    found = [
        f"{getattr(job, verdict)} {words[0].lower()}" for verdict, words in VERDICTS.items() if getattr(job, verdict)
    ]
    found += [f"{count} {word}" for count, word in ((job.failed, "not scanned"), (job.canceled, "canceled")) if count]
    return " · ".join([photos(job.total), *found])


@blueprint.get("/session/<token>")
def link(token: str) -> str:
    """Ask before the link is spent: programs that look at links ahead of people only GET them."""
    return render_template("link.html", token=token)


@blueprint.post("/session/<token>")
def enter(token: str) -> Response:
    """Spend the link and start this browser's session."""
    _check_form()
    open_session(accounts.spend_link(stores().database, token, network(*COARSE)))
    return redirect("/", 303)


@blueprint.get("/login")
def login() -> str:
    """Ask for a moderator's name and password."""
    return render_template("login.html", name="", wrong="")


@blueprint.post("/login")
def sign_in() -> Response | tuple[str, int]:
    """Start a moderator's session, or ask again."""
    _check_form()
    name, password = request.form.get("name", ""), request.form.get("password", "")
    check_sign_in(name)
    try:
        opened = moderators.sign_in(stores().database, name, password, network(*COARSE))
    except Unauthorised as error:
        return render_template("login.html", name=name, wrong=str(error)), HTTPStatus.UNAUTHORIZED
    open_session(opened)
    return redirect("/", 303)


@blueprint.post("/logout")
def leave() -> Response:
    """End this browser's session."""
    _check_form()
    end_session()
    return redirect("/", 303)


def _check_form() -> None:
    """Raises Forged, and RequestEntityTooLarge: anyone may send these forms."""
    request.max_content_length = FORM_BYTES
    check_form_token(request.form.get("form_token", ""))
