"""The pages on which an account's admins manage its webhooks, and see what became of what was sent."""

import json
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, NamedTuple

from flask import Blueprint, redirect, render_template, request, url_for
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.wrappers import Response

from api.auth import account_id, actor, check_form_token, require_session
from api.problems import faults_of
from api.stores import stores
from api.webhook_schemas import DELIVERY_ID, DeliveryPath, NewWebhook, WebhookPath
from api.webhooks import check_url, seal
from api.words import DELIVERY_STATES, DISABLED, EVENTS
from shield import deliveries, endpoints, events, replays
from shield.errors import InvalidSubmission
from shield.models import Endpoint
from shield.states import DeliveryState, DisabledReason, Role

FORM_BYTES = 16 * 1024
PAGE = 20  # deliveries
NOTICES = 10  # the newest
MOVING = (DeliveryState.PENDING, DeliveryState.SENDING)  # there will be news of these soon
SPANS = {1: "hour", 24: "day", 168: "week", 720: "30 days"}  # hours of what did not arrive that are sent once more

blueprint = Blueprint("webhook_pages", __name__, url_prefix="/webhooks")


class Form(NamedTuple):
    """What was typed into a form, to be shown once more where something is wrong with it."""

    url: str = ""
    description: str = ""
    events: tuple[str, ...] = tuple(EVENTS)
    wrong: str = ""


class DeliveryQuery(BaseModel):
    """Which deliveries are shown, and how many events were just sent once more."""

    model_config = ConfigDict(extra="ignore")

    after: Annotated[str, Field(pattern=DELIVERY_ID)] | None = None
    state: DeliveryState | None = None
    replayed: Annotated[int, Field(ge=0, le=replays.REPLAYED)] | None = None


class ReplayForm(BaseModel):
    """Hours of what did not arrive."""

    hours: int = Field(24, ge=1, le=max(SPANS))


@blueprint.before_request
def _guard() -> None:
    """An admin's session first; then ids that could be one, and the form's token."""
    require_session(Role.ADMIN)
    request.max_content_length = FORM_BYTES
    given = request.view_args or {}
    if given:
        (DeliveryPath if "delivery_id" in given else WebhookPath).model_validate(given)
    if request.method == "POST":
        check_form_token(request.form.get("form_token", ""))


@blueprint.get("")
def all_of_them() -> str:
    """The account's webhooks, and a form for another."""
    return _list(Form())


@blueprint.post("")
def create() -> str | tuple[str, int]:
    """Make a webhook and show its secret, this once; or say what is wrong."""
    form = _form()
    try:
        wanted = _checked(form)
        with stores().database.write() as session:
            row, secret = endpoints.create(
                session,
                account_id(),
                seal(),
                wanted.url,
                wanted.events,
                description=wanted.description,
                actor=actor(),
            )
    except (ValidationError, InvalidSubmission) as error:
        return _list(form._replace(wrong=_why(error))), HTTPStatus.UNPROCESSABLE_ENTITY
    return _one(row.id, secret=secret)


@blueprint.get("/<webhook_id>")
def one(webhook_id: str) -> str:
    """A webhook: what it is sent, how that went, and what can be done with it."""
    return _one(webhook_id)


@blueprint.post("/<webhook_id>/change")
def change(webhook_id: str) -> Response | tuple[str, int]:
    """Send something else, or somewhere else; or say what is wrong."""
    form = _form()
    try:
        wanted = _checked(form)
        with stores().database.write() as session:
            endpoints.change(
                session,
                account_id(),
                webhook_id,
                url=wanted.url,
                events=wanted.events,
                description=wanted.description,
                actor=actor(),
            )
    except (ValidationError, InvalidSubmission) as error:
        return _one(webhook_id, form._replace(wrong=_why(error))), HTTPStatus.UNPROCESSABLE_ENTITY
    return _show(webhook_id)


@blueprint.post("/<webhook_id>/rotate")
def rotate(webhook_id: str) -> str:
    """Give it a new secret, and show that, this once."""
    with stores().database.write() as session:
        secret = endpoints.rotate(session, account_id(), webhook_id, seal(), actor=actor())
    return _one(webhook_id, secret=secret)


@blueprint.post("/<webhook_id>/test")
def test(webhook_id: str) -> Response:
    """Send it a test, and show how that goes."""
    with stores().database.write() as session:
        row = events.test(session, endpoints.get_enabled(session, account_id(), webhook_id))
    return redirect(url_for("webhook_pages.delivery", webhook_id=webhook_id, delivery_id=row.id), 303)


@blueprint.post("/<webhook_id>/enable")
def enable(webhook_id: str) -> Response:
    """Send to it again."""
    with stores().database.write() as session:
        endpoints.enable(session, account_id(), webhook_id, actor())
    return _show(webhook_id)


@blueprint.post("/<webhook_id>/disable")
def disable(webhook_id: str) -> Response:
    """Send to it no more."""
    with stores().database.write() as session:
        row = endpoints.get(session, account_id(), webhook_id)
        endpoints.disable(session, row, DisabledReason.BY_ACCOUNT, "by the account", actor())
    return _show(webhook_id)


@blueprint.post("/<webhook_id>/delete")
def delete(webhook_id: str) -> Response:
    """Delete it, and show the others."""
    with stores().database.write() as session:
        endpoints.delete(session, account_id(), webhook_id, actor())
    return redirect("/webhooks", 303)


@blueprint.post("/<webhook_id>/replay")
def replay(webhook_id: str) -> Response:
    """Send once more what did not arrive within so many hours."""
    form = ReplayForm.model_validate(request.form.to_dict())
    since = datetime.now(UTC) - timedelta(hours=form.hours)
    with stores().database.write() as session:
        endpoint = endpoints.get_enabled(session, account_id(), webhook_id)
        done = replays.replay_range(session, endpoint, since, None)
    return _show(webhook_id, replayed=done.count)


@blueprint.get("/<webhook_id>/deliveries/<delivery_id>")
def delivery(webhook_id: str, delivery_id: str) -> str:
    """A delivery: what is sent, and every try of it."""
    with stores().database.read() as session:
        endpoint = endpoints.get(session, account_id(), webhook_id)
        row, event = deliveries.get(session, account_id(), webhook_id, delivery_id)
        tries = deliveries.attempts(session, row)
    return render_template(
        "delivery.html",
        webhook=endpoint,
        delivery=row,
        event=event,
        facts=json.dumps(event.data, indent=2, ensure_ascii=False),
        attempts=tries,
        states=DELIVERY_STATES,
        moving=row.state in MOVING,
    )


@blueprint.post("/<webhook_id>/deliveries/<delivery_id>/replay")
def replay_one(webhook_id: str, delivery_id: str) -> Response:
    """Send its event once more, and show the webhook's deliveries."""
    with stores().database.write() as session:
        endpoint = endpoints.get_enabled(session, account_id(), webhook_id)
        _, event = deliveries.get(session, account_id(), webhook_id, delivery_id)
        replays.replay(session, endpoint, event.id)
    return _show(webhook_id, replayed=1)


def _form() -> Form:
    given = request.form
    return Form(given.get("url", "").strip(), given.get("description", ""), tuple(given.getlist("events")))


def _checked(form: Form) -> NewWebhook:
    """Raises ValidationError, UnsafeUrl."""
    wanted = NewWebhook.model_validate({"url": form.url, "description": form.description, "events": form.events})
    check_url(wanted.url)
    return wanted


def _why(error: ValidationError | InvalidSubmission) -> str:
    if isinstance(error, InvalidSubmission):
        words = str(error)
        return f"{words[0].upper()}{words[1:]}."
    return "; ".join(f"{fault.pointer.strip('/')}: {fault.detail}" for fault in faults_of(error))


def _list(form: Form) -> str:
    with stores().database.read() as session:
        rows = endpoints.of_account(session, account_id())
    return render_template("webhooks.html", webhooks=rows, form=form, kinds=EVENTS, disabled=DISABLED)


def _one(webhook_id: str, form: Form | None = None, secret: str = "") -> str:
    query = DeliveryQuery.model_validate(request.args.to_dict())
    with stores().database.read() as session:
        row = endpoints.get(session, account_id(), webhook_id)
        sent = deliveries.of_endpoint(session, row, PAGE + 1, query.after, query.state)
        notices = endpoints.notices(session, account_id(), webhook_id, NOTICES)
    return render_template(
        "webhook.html",
        webhook=row,
        form=form or _form_of(row),
        secret=secret,
        kinds=EVENTS,
        disabled=DISABLED,
        states=DELIVERY_STATES,
        spans=SPANS,
        query=query,
        deliveries=sent[:PAGE],
        next_after=sent[PAGE - 1][0].id if len(sent) > PAGE else None,
        moving=any(each.state in MOVING for each, _ in sent[:PAGE]),
        notices=notices,
        most=replays.REPLAYED,
    )


def _form_of(row: Endpoint) -> Form:
    return Form(row.url, row.description, tuple(row.events))


def _show(webhook_id: str, replayed: int | None = None) -> Response:
    return redirect(url_for("webhook_pages.one", webhook_id=webhook_id, replayed=replayed), 303)
