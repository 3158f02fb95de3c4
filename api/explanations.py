"""Why the faces of a photo score as they do: asked for from a page, and, once a worker has made it, shown in one."""

import re
from typing import Any

from flask import Blueprint, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from api.auth import account_id, check_form_token, require_session
from api.items import picture
from api.schemas import ItemPath
from api.stores import stores
from shield import explanations, jobs
from shield.errors import NotFound
from shield.models import ExplainedFace, Explanation
from shield.queue import LANES, Message
from shield.states import ExplanationState

FORM_BYTES = 4096
BACK = re.compile(r"/(?:items|review)/[\w/-]+")  # pages that a form may ask to be shown again

blueprint = Blueprint("explanations", __name__)


@blueprint.before_request
def _guard() -> None:
    """A session first; then an id that could be one: any other is as unknown as another account's."""
    require_session()
    request.max_content_length = FORM_BYTES
    ItemPath.model_validate({"item_id": (request.view_args or {}).get("item_id")})


@blueprint.post("/items/<item_id>/explain")
def ask(item_id: str) -> AnyResponse:
    """Ask for an explanation, and show the page again that the form's `back` names, else the photo's."""
    check_form_token(request.form.get("form_token", ""))
    with stores().database.write() as session:
        found = explanations.ask(session, account_id(), item_id)
    if found.state == ExplanationState.PENDING:
        stores().poker.hint(Message(explanations.EXPLAIN, LANES[0], item_id))
    back = request.form.get("back", "")
    return redirect(back if BACK.fullmatch(back) else f"/items/{item_id}", 303)


@blueprint.get("/items/<item_id>/explanation")
def explanation(item_id: str) -> AnyResponse:
    """How it stands, and once it is ready each face that is explained; `none` where nobody asked."""
    with stores().database.read() as session:
        found = explanations.of(session, account_id(), item_id)
        weights = jobs.item(session, account_id(), item_id).weights_sha256
    return jsonify(_shown(found, weights) if found else {"state": "none", "faces": []})


@blueprint.get("/items/<item_id>/faces/<ordinal>/crop")
def crop(item_id: str, ordinal: str) -> AnyResponse:
    """What the classifier saw of a face."""
    return picture(_face(item_id, ordinal).crop_blob, "image/jpeg")


@blueprint.get("/items/<item_id>/faces/<ordinal>/heatmap")
def heatmap(item_id: str, ordinal: str) -> AnyResponse:
    """Which parts of a face spoke, to be laid over it."""
    return picture(_face(item_id, ordinal).heatmap_blob, "image/png")


def _face(item_id: str, ordinal: str) -> ExplainedFace:
    if re.fullmatch("[0-9]{1,6}", ordinal) is None:
        raise NotFound(f"no face {ordinal} of item {item_id}: faces are counted from 0")
    with stores().database.read() as session:
        return explanations.face(session, account_id(), item_id, int(ordinal))


def _shown(found: Explanation, weights_sha256: str | None) -> dict[str, Any]:
    """As JSON. `same_weights`: it was made by the classifier that scored the photo, so that its scores are the same."""
    return {
        "state": found.state,
        "reason": found.reason,
        "picture": found.picture,
        "same_weights": found.weights_sha256 == weights_sha256 if found.weights_sha256 else None,
        "faces": [
            {
                "ordinal": face.ordinal,
                "square": {"left": face.left, "top": face.top, "side": face.side},
                "score": face.score,
                "stability": dict(face.stability),
                "crop": f"/items/{found.item_id}/faces/{face.ordinal}/crop",
                "heatmap": f"/items/{found.item_id}/faces/{face.ordinal}/heatmap",
            }
            for face in found.faces
        ],
    }
