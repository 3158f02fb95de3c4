"""The pages on which an account's admins manage it: API keys."""

from typing import Annotated

from flask import Blueprint, redirect, render_template, request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from werkzeug.wrappers import Response

from api.auth import account_id, actor, check_form_token, require_session
from api.keys import KeyPath, NewKey
from api.problems import faults_of
from api.stores import stores
from shield import accounts
from shield.states import Role, Scope

FORM_BYTES = 16 * 1024
SCOPES = {  # in the words of the form
    Scope.JOBS_WRITE: "Submit, cancel, retry and delete jobs",
    Scope.JOBS_READ: "Look at jobs and results",
    Scope.REVIEW: "Look at cases and decide them",
    Scope.ADMIN: "Manage keys and webhooks",
}

blueprint = Blueprint("manage", __name__)


class KeyForm(BaseModel):
    """What the form sends: all fields are text."""

    model_config = ConfigDict(extra="ignore")

    name: str
    days: Annotated[float | None, BeforeValidator(lambda text: text or None)] = Field(None)


@blueprint.before_request
def _guard() -> None:
    """An admin's session first; then an id that could be one: any other is as unknown as another account's."""
    require_session(Role.ADMIN)
    request.max_content_length = FORM_BYTES
    if request.view_args:
        KeyPath.model_validate(request.view_args)


@blueprint.get("/keys")
def keys() -> str:
    """The account's keys, and a form for another."""
    return _page()


@blueprint.post("/keys")
def create() -> str | tuple[str, int]:
    """Make a key and show it, this once; or say what is wrong."""
    check_form_token(request.form.get("form_token", ""))
    try:
        form = KeyForm.model_validate(request.form.to_dict())
        wanted = NewKey(
            name=form.name, scopes=[Scope(s) for s in request.form.getlist("scope") if s in set(Scope)], days=form.days
        )
    except ValidationError as error:
        return _page(wrong="; ".join(f"{fault.pointer.strip('/')}: {fault.detail}" for fault in faults_of(error))), 422
    with stores().database.write() as session:
        secret = accounts.create_key(session, account_id(), wanted.name, wanted.scopes, wanted.days, actor())
    return _page(secret=secret)


@blueprint.post("/keys/<key_id>/revoke")
def revoke(key_id: str) -> Response:
    """Revoke a key, and show the others."""
    check_form_token(request.form.get("form_token", ""))
    with stores().database.write() as session:
        accounts.revoke_key(session, account_id(), key_id, actor())
    return redirect("/keys", 303)


def _page(secret: str = "", wrong: str = "") -> str:
    with stores().database.read() as session:
        rows = accounts.keys(session, account_id())
    rows.sort(key=lambda row: (row.revoked_at is not None, row.id))
    return render_template("keys.html", keys=rows, scopes=SCOPES, secret=secret, wrong=wrong)
