"""The pages on which an account's admins set its policy: draft, look at what would change, publish, roll back."""

from http import HTTPStatus

from flask import Blueprint, redirect, render_template, request
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from api.auth import account_id, actor, check_form_token, require_session
from api.policy_forms import FitQuery, PolicyQuery, TermsForm
from api.policy_words import ORIGINS, ShownTerms, ShownVersion, bars, percent, rate_in_words
from api.problems import faults_of
from api.shown import ShownItem
from api.stores import stores
from api.words import VERDICTS, photos
from shield import jobs, moderators, operating, past, policies, rejudge, samples
from shield.errors import DraftChanged
from shield.policy import Policy, Terms
from shield.states import JobState, Role

FORM_BYTES = 64 * 1024
VERSIONS = 10  # on a page of the history
CLEAN_JOBS = 12  # the newest ones, to choose from

blueprint = Blueprint("policy", __name__, url_prefix="/policy")


class RollbackForm(BaseModel):
    """The number of a version; 0 is the default."""

    number: int = Field(ge=0, lt=2**31)


@blueprint.before_request
def _guard() -> None:
    """An admin's session first; then the form's token."""
    require_session(Role.ADMIN)
    request.max_content_length = FORM_BYTES
    if request.method == "POST":
        check_form_token(request.form.get("form_token", ""))


@blueprint.get("")
def overview() -> str:
    """The policy in force, the draft, and what was published before."""
    return _overview(PolicyQuery.model_validate(request.args.to_dict()))


@blueprint.post("/draft")
def draft() -> Response | tuple[str, int]:
    """Save the draft and show what it would change; or say what is wrong with it."""
    form = TermsForm.sent(request.form)
    try:
        terms = form.terms()
    except ValueError as error:
        return _overview(PolicyQuery(), form, str(error)), HTTPStatus.UNPROCESSABLE_ENTITY
    with stores().database.write() as session:
        policies.save_draft(session, account_id(), terms, form.note, actor())
    return redirect("/policy/preview", 303)


@blueprint.get("/preview")
def preview() -> str:
    """What the draft would change: figures, and examples of each kind of change."""
    return _preview()


def _preview(wrong: str = "") -> str:
    with stores().database.read() as session:
        row = policies.draft(session, account_id())
        if row is None:
            return render_template("policy_preview.html", draft=None, wrong=wrong)
        terms = policies.terms_of(row)
        seen = rejudge.preview(session, account_id(), terms)
        items = past.whole(session, account_id(), [name for change in seen.changes for name in change.examples])
        default = _default(session)
    shown = {
        item.id: ShownItem.of(item, policy=terms.policy("draft", policies.default_of(item.weights)))
        for item in items.values()
        if item.weights is not None
    }
    return render_template(
        "policy_preview.html",
        draft=row,
        wrong=wrong,
        terms=ShownTerms.of(terms, default),
        seen=seen,
        items=shown,
        verdicts=VERDICTS,
        photos=photos,
        percent=percent,
        most=rejudge.MOST,
    )


@blueprint.post("/publish")
def publish() -> Response | tuple[str, int]:
    """Put the draft that was looked at in force; if it is another one by now, show that."""
    try:
        with stores().database.write() as session:
            policies.publish(session, account_id(), request.form.get("draft", ""), actor())
    except DraftChanged as error:
        return _preview(str(error)), HTTPStatus.CONFLICT
    return redirect("/policy", 303)


@blueprint.post("/discard")
def discard() -> Response:
    """Forget the draft."""
    with stores().database.write() as session:
        policies.discard_draft(session, account_id())
    return redirect("/policy", 303)


@blueprint.post("/rollback")
def roll_back() -> Response:
    """Put an earlier version's terms in force again."""
    form = RollbackForm.model_validate(request.form.to_dict())
    with stores().database.write() as session:
        policies.roll_back(session, account_id(), form.number, actor())
    return redirect("/policy", 303)


@blueprint.get("/fit")
def fit() -> str | tuple[str, int]:
    """Find the threshold that flags no more than a share of clean photos."""
    try:
        query = FitQuery.model_validate({**request.args.to_dict(), "job": request.args.getlist("job")})
    except ValidationError as error:
        wrong = "; ".join(f"{fault.pointer.strip('/')}: {fault.detail}" for fault in faults_of(error))
        return _fit(FitQuery(), wrong=wrong), HTTPStatus.UNPROCESSABLE_ENTITY
    return _fit(query)


def _overview(query: PolicyQuery, form: TermsForm | None = None, wrong: str = "") -> str:
    with stores().database.read() as session:
        default = _default(session)
        current = policies.newest(session, account_id())
        row = policies.draft(session, account_id())
        versions = policies.history(session, account_id(), VERSIONS + 1, query.before)
        people = {person.id: person.name for person in moderators.of_account(session, account_id())}
    if form is None:
        start = row or current
        form = TermsForm.of(policies.terms_of(start) if start else Terms(), default, row.note if row else "")
        if query.verdict is not None and query.threshold is not None:
            form = form.with_threshold(query.verdict, query.threshold)
    return render_template(
        "policy.html",
        current=ShownVersion.of(current, default, people) if current else None,
        terms=ShownTerms.of(policies.terms_of(current) if current else Terms(), default),
        default=ShownTerms.of(Terms(), default),
        draft=row,
        form=form,
        wrong=wrong,
        origins=ORIGINS,
        versions=[ShownVersion.of(version, default, people) for version in versions[:VERSIONS]],
        before=query.before,
        more=versions[VERSIONS - 1].number if len(versions) > VERSIONS else None,
    )


def _fit(query: FitQuery, wrong: str = "") -> str:
    with stores().database.read() as session:
        recent = [job for job in jobs.newest(session, account_id(), CLEAN_JOBS) if job.state == JobState.ENDED]
        sample = None
        if query.job_ids or query.reviewed:
            current = policies.draft(session, account_id()) or policies.newest(session, account_id())
            terms = policies.terms_of(current) if current else Terms()
            sample = samples.clean(
                session, account_id(), query.job_ids, reviewed=query.reviewed, terms=terms, verdict=query.verdict
            )
    found = operating.fit(sample.peaks, query.target / 100) if sample else None
    return render_template(
        "policy_fit.html",
        query=query,
        wrong=wrong,
        jobs=[job for job in recent if job.done],
        sample=sample,
        found=found,
        kind=type(found).__name__,
        reached=operating.rate(sample.reached, len(sample.peaks)) if sample and sample.peaks else None,
        bars=bars(sample.peaks) if sample and sample.peaks else [],
        rate_in_words=rate_in_words,
        percent=percent,
        photos=photos,
    )


def _default(session: Session) -> Policy | None:
    """The thresholds of the newest model; None before any worker has run."""
    weights = policies.newest_weights(session)
    return None if weights is None else policies.default_of(weights)
