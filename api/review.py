"""The moderators' console: the queue, a case, and what is answered to it. All of it works without JavaScript."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from flask import Blueprint, flash, g, redirect, render_template, request, session
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from api.auth import account_id, actor, check_form_token, require_session
from api.case_schemas import CasePath
from api.errors import status_of
from api.review_forms import Answered, View, case_asked, kinds
from api.review_words import (
    LARGE,
    REASON_FITS,
    REASON_KEYS,
    REASON_WORDS,
    SORTS,
    WHY_OPENED,
    ShownCase,
    ShownDecision,
    ShownWhy,
    Standing,
    Viewer,
    in_bulk,
)
from api.stores import stores
from shield import cases, claims, decisions, duplicates, explanations, moderators
from shield.cases import CaseFilter
from shield.claims import Claim, Reviewer
from shield.db import now
from shield.decisions import Ruling
from shield.errors import NotFound, ShieldError
from shield.models import Moderator
from shield.states import Answer, CaseReason, CaseState

PAGE = 48  # cases: fills rows of two, three, four and six
FORM_BYTES = 64 * 1024  # a note, or the ids of a page of cases

blueprint = Blueprint("review", __name__, url_prefix="/review")


@blueprint.before_request
def _guard() -> None:
    """A session first; then ids that could be one. Whatever is refused, error.html gives a note back."""
    request.max_content_length = FORM_BYTES
    if request.method == "POST":
        g.note = request.form.get("note", "")
    require_session()
    if request.view_args:
        CasePath.model_validate(request.view_args)
    if request.method == "POST":
        check_form_token(request.form.get("form_token", ""))


def _reviewer() -> Reviewer:
    return Reviewer(actor(), g.role)


def _seconds() -> float:
    return stores().settings.claim_seconds


@blueprint.get("")
def queue() -> str:
    """The cases that wait, and how many."""
    return _queue_page(View.asked())


@blueprint.post("/next")
def following() -> Response:
    """Claim the first case of a view, and show it."""
    view = View.asked()
    with stores().database.write() as db:
        claim = claims.claim_next(db, account_id(), _reviewer(), _seconds(), view.sort, view.wanted)
    return _go_to(claim, view)


def _go_to(claim: Claim | None, view: View, **more: str) -> Response:
    """To a claimed case; without one, to the queue, which then says that nothing is left."""
    if claim is None:
        return redirect(view.at("/review", **more, end="1"), 303)
    return redirect(view.at(f"/review/cases/{claim.case.id}", **more), 303)


@blueprint.get("/cases/<case_id>")
def case(case_id: str) -> str:
    """A case: the photo, what was measured, and the form to answer it with."""
    return _case_page(case_id, View.asked())


@blueprint.post("/cases/<case_id>/claim")
def claim(case_id: str) -> Response | tuple[str, HTTPStatus]:
    """Claim this case, and show it."""
    view = View.asked()
    try:
        with stores().database.write() as db:
            claims.claim(db, account_id(), case_id, _reviewer(), _seconds())
    except ShieldError as error:
        return _refused(error, case_id, view)
    return redirect(view.at(f"/review/cases/{case_id}"), 303)


@blueprint.post("/cases/<case_id>/renew")
def renew(case_id: str) -> Response:
    """Hold a claim for longer: sent by an open page, now and then."""
    with stores().database.write() as db:
        claims.renew(db, account_id(), case_id, request.form.get("token", ""), _seconds())
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.post("/cases/<case_id>/release")
def release(case_id: str) -> Response:
    """Give a case back undecided, and show the queue. Raises NotFound."""
    with stores().database.write() as db:
        cases.get(db, account_id(), case_id)
        claims.release(db, account_id(), case_id, request.form.get("token", ""))
    return redirect(View.asked().at("/review"), 303)


@blueprint.post("/cases/<case_id>/decide")
def decide(case_id: str) -> Response | tuple[str, HTTPStatus]:
    """Answer a case, claim the next one, and show it. A case that nobody has is claimed and answered at once."""
    view, form = View.asked(), Answered.sent()
    try:
        ruling = Ruling(form.answer, form.reason, form.note)
        with stores().database.write() as db:
            token = form.token or claims.claim(db, account_id(), case_id, _reviewer(), _seconds()).token
            decisions.decide(db, account_id(), case_id, token, ruling, _reviewer())
            claim = claims.claim_next(db, account_id(), _reviewer(), _seconds(), view.sort, view.wanted)
    except ShieldError as error:
        return _refused(error, case_id, view, form)
    return _go_to(claim, view, done=case_id)


@blueprint.post("/cases/<case_id>/undo")
def undo(case_id: str) -> Response | tuple[str, HTTPStatus]:
    """Take the last answer back, and show the case, claimed. The case that was left for it is given back."""
    view, leaves = View.asked(), request.form.get("leaves")
    try:
        with stores().database.write() as db:
            if leaves:
                claims.release(db, account_id(), leaves, request.form.get("token", ""))
            decisions.undo(db, account_id(), case_id, _reviewer(), _seconds())
    except ShieldError as error:
        return _refused(error, case_id, view)
    return redirect(view.at(f"/review/cases/{case_id}"), 303)


def _refused(error: ShieldError, case_id: str, view: View, form: Answered | None = None) -> tuple[str, HTTPStatus]:
    """The case as it stands now, why nothing was changed, and what was typed. Raises the error where no case is."""
    status = status_of(error)
    if isinstance(error, NotFound) or status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise error
    return _case_page(case_id, view, form, str(error)), status


@blueprint.post("/bulk")
def bulk() -> Response | tuple[str, HTTPStatus]:
    """Answer many cases alike, and show the queue."""
    view, form = View.asked(), Answered.sent()
    chosen = [CasePath(case_id=found).case_id for found in request.form.getlist("case_id")]
    limits = stores().settings
    try:
        ruling = Ruling(form.answer, form.reason, form.note)
        with stores().database.write() as db:
            ruled = decisions.decide_many(
                db, account_id(), chosen, ruling, _reviewer(), limits.bulk_cases, limits.decisions_per_minute
            )
    except ShieldError as error:
        status = status_of(error)
        if status is None:
            raise
        return _queue_page(view, form, str(error), chosen), status
    flash(in_bulk(form.answer, len(ruled.decided), len(ruled.passed_over)))
    return redirect(view.at("/review"), 303)


@blueprint.get("/decided")
def decided() -> str:
    """What was decided, the latest first, to be looked at again or taken back."""
    after = case_asked("after")
    with stores().database.read() as db:
        rows = cases.queue(db, account_id(), g.role, PAGE + 1, wanted=CaseFilter(state=CaseState.DECIDED), after=after)
        viewer = _viewer(db, [row.decided_by for row in rows])
        return render_template(
            "review/decided.html",
            cases=[ShownCase.of(row, viewer) for row in rows[:PAGE]],
            next_after=rows[PAGE - 1].id if len(rows) > PAGE else None,
            after=after,
            **_everywhere(db, View(), viewer),
        )


@blueprint.post("/preferences")
def prefer() -> Response:
    """Keep how photos are shown to this person: blurred or not, with colour or without."""
    blur, greyscale = "blur" in request.form, "greyscale" in request.form
    with stores().database.write() as db:
        if db.get(Moderator, actor()) is None:  # a session that a link opened is nobody's: its cookie keeps them
            session["blur"], session["greyscale"] = blur, greyscale
        else:
            moderators.prefer(db, account_id(), actor(), blur, greyscale)
    case_id = request.form.get("case_id")
    back = f"/review/cases/{CasePath(case_id=case_id).case_id}" if case_id else "/review"
    return redirect(View.asked().at(back), 303)


def _queue_page(view: View, form: Answered | None = None, wrong: str = "", chosen: Sequence[str] = ()) -> str:
    after = case_asked("after")
    with stores().database.read() as db:
        rows = cases.queue(db, account_id(), g.role, PAGE + 1, view.sort, view.wanted, after)
        viewer = _viewer(db, [row.claimed_by for row in rows])
        return render_template(
            "review/queue.html",
            cases=[ShownCase.of(row, viewer) for row in rows[:PAGE]],
            next_after=rows[PAGE - 1].id if len(rows) > PAGE else None,
            after=after,
            kinds=kinds(view),
            campaigns=cases.campaigns(db, account_id()),
            form=form or Answered(),
            wrong=wrong,
            at_end="end" in request.args,
            chosen=chosen,
            sorts=SORTS,
            searched=cases.SEARCHED,
            **_everywhere(db, view, viewer),
        )


def _case_page(case_id: str, view: View, form: Answered | None = None, wrong: str = "") -> str:
    with stores().database.read() as db:
        row = cases.get(db, account_id(), case_id)
        following = claims.peek_next(db, account_id(), _reviewer(), view.sort, view.wanted, [case_id])
        near = duplicates.near_duplicates(db, account_id(), row)
        history = decisions.history(db, account_id(), case_id)
        why = explanations.of(db, account_id(), row.item_id)
        actors = [row.claimed_by, row.decided_by, *(found.case.decided_by for found in near)]
        viewer = _viewer(db, [*actors, *(decision.actor for decision in history)])
        answerable = viewer.standing(row) in (Standing.MINE, Standing.FREE)
        form = form or (Answered.taken_back(history, viewer.id) if answerable else Answered())
        return render_template(
            "review/case.html",
            case=ShownCase.of(row, viewer, LARGE),
            near=[(ShownCase.of(found.case, viewer), found.distance) for found in near],
            history=[ShownDecision.of(decision, viewer) for decision in history],
            why={face.ordinal: ShownWhy.of(face) for face in why.faces} if why else {},
            why_state=why.state if why else "none",
            other_weights=why is not None and why.weights_sha256 not in (None, row.item.weights_sha256),
            next_item=following.item_id if following else None,
            form=form,
            wrong=wrong,
            claim_seconds=_seconds(),
            longest_note=decisions.LONGEST_NOTE,
            reason_fits=REASON_FITS,
            why_opened=WHY_OPENED[CaseReason(row.reason)],
            **_everywhere(db, view, viewer),
        )


def _viewer(db: Session, actors: Iterable[str | None]) -> Viewer:
    """Who looks, and the names of these."""
    names = moderators.names_of(db, account_id(), {found for found in actors if found})
    return Viewer(actor(), g.role, now(db), names)


def _everywhere(db: Session, view: View, viewer: Viewer) -> dict[str, Any]:
    """What every page of the console shows: how many cases wait, what was answered last, and how photos are shown."""
    person = db.get(Moderator, actor())
    chosen = session if person is None else {"blur": person.blur, "greyscale": person.greyscale}
    return {
        "view": view,
        "viewer": viewer,
        "counts": cases.counts(db, account_id()),
        "counted": cases.COUNTED,
        "last": _last(db, viewer),
        "blur": chosen.get("blur", True),
        "greyscale": chosen.get("greyscale", True),
        "reason_keys": REASON_KEYS,
        "reason_words": REASON_WORDS,
    }


def _last(db: Session, viewer: Viewer) -> tuple[str, ShownDecision] | None:
    """The case that this request comes from, as `done` says, and what was answered there, unless it was taken back."""
    done = case_asked("done")
    rows = decisions.last_of(db, account_id(), viewer.id, 1) if done else []
    if not rows or rows[0].case_id != done or rows[0].answer == Answer.UNDO:
        return None
    return done, ShownDecision.of(rows[0], viewer)
