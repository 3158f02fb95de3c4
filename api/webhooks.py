"""/v1/webhooks: make, change, rotate, test and disable webhooks; what was sent to them, and sending it once more."""

from collections.abc import Callable
from http import HTTPStatus

from flask import Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api import webhook_schemas as schemas
from api.auth import account_id, actor, requires
from api.bodies import check_json
from api.problems import PROBLEMS, problem
from api.stores import stores
from shield import deliveries, endpoints, events, models, replays
from shield.secret import Seal
from shield.states import DisabledReason, Scope

blueprint = APIBlueprint(
    "webhooks",
    __name__,
    url_prefix="/v1/webhooks",
    abp_tags=[Tag(name="webhooks", description="URLs of yours that are told what happens.")],
    abp_security=[{"key": []}],
    abp_responses=PROBLEMS,
)
blueprint.before_request(requires(Scope.ADMIN, Scope.ADMIN))
blueprint.before_request(check_json)


@blueprint.post("", operation_id="create_webhook", responses={201: schemas.WebhookMade, **problem(400, 413, 415, 422)})
def create(body: schemas.NewWebhook) -> Response:
    """Make a webhook.

    The answer holds the secret that signs what is sent: it is shown this once. The URL is looked up, and refused where
    it leads to no address of the public internet; it is not called before something happens.
    """
    check_url(body.url)
    with stores().database.write() as session:
        row, secret = endpoints.create(
            session,
            account_id(),
            seal(),
            body.url,
            body.events,
            description=body.description,
            secret=body.secret,
            actor=actor(),
        )
    made = schemas.WebhookMade.with_secret(row, secret)
    return _json(made, HTTPStatus.CREATED, Location=f"/v1/webhooks/{row.id}")


@blueprint.get("", operation_id="list_webhooks", responses={200: schemas.WebhookList})
def all_of_them() -> Response:
    """List webhooks."""
    with stores().database.read() as session:
        rows = endpoints.of_account(session, account_id())
    return _json(schemas.WebhookList(data=[schemas.Webhook.of(row) for row in rows]))


@blueprint.get("/<webhook_id>", operation_id="get_webhook", responses={200: schemas.Webhook, **problem(404)})
def get(path: schemas.WebhookPath) -> Response:
    """Look at a webhook."""
    with stores().database.read() as session:
        row = endpoints.get(session, account_id(), path.webhook_id)
    return _json(schemas.Webhook.of(row))


@blueprint.patch(
    "/<webhook_id>", operation_id="change_webhook", responses={200: schemas.Webhook, **problem(400, 404, 413, 415, 422)}
)
def change(path: schemas.WebhookPath, body: schemas.WebhookChange) -> Response:
    """Change a webhook.

    What is owed to it already goes to its new URL.
    """
    if body.url is not None:
        check_url(body.url)
    return _written(
        lambda session: endpoints.change(
            session,
            account_id(),
            path.webhook_id,
            url=body.url,
            events=body.events,
            description=body.description,
            actor=actor(),
        )
    )


@blueprint.delete(
    "/<webhook_id>",
    operation_id="delete_webhook",
    responses={204: {"description": "It is deleted."}, **problem(404)},
)
def delete(path: schemas.WebhookPath) -> Response:
    """Delete a webhook.

    Nothing is sent to it any more, and its secrets are forgotten.
    """
    with stores().database.write() as session:
        endpoints.delete(session, account_id(), path.webhook_id, actor())
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.post(
    "/<webhook_id>/rotate",
    operation_id="rotate_webhook",
    responses={200: schemas.SecretShown, **problem(400, 404, 413, 415, 422)},
)
def rotate(path: schemas.WebhookPath, body: schemas.Rotation) -> Response:
    """Give a webhook a new secret.

    It is shown this once. For 24 hours what is sent is signed with both, the new one and what signed before.
    """
    with stores().database.write() as session:
        secret = endpoints.rotate(session, account_id(), path.webhook_id, seal(), body.secret, actor())
    return _json(schemas.SecretShown(secret=secret))


@blueprint.post(
    "/<webhook_id>/test", operation_id="test_webhook", responses={202: schemas.Delivery, **problem(404, 409)}
)
def test(path: schemas.WebhookPath) -> Response:
    """Send a webhook an event of the type `endpoint.test`.

    The attempts of the delivery say whether it arrived, and what was answered.
    """
    with stores().database.write() as session:
        row = events.test(session, endpoints.get_enabled(session, account_id(), path.webhook_id))
        shown = schemas.Delivery.of(row, session.get_one(models.Event, row.event_id))
    return _json(shown, HTTPStatus.ACCEPTED)


@blueprint.post("/<webhook_id>/enable", operation_id="enable_webhook", responses={200: schemas.Webhook, **problem(404)})
def enable(path: schemas.WebhookPath) -> Response:
    """Enable a webhook.

    What happened while it was disabled is sent when it is replayed.
    """
    return _written(lambda session: endpoints.enable(session, account_id(), path.webhook_id, actor()))


@blueprint.post(
    "/<webhook_id>/disable", operation_id="disable_webhook", responses={200: schemas.Webhook, **problem(404)}
)
def disable(path: schemas.WebhookPath) -> Response:
    """Disable a webhook.

    What is owed to it is dropped as it comes due.
    """

    def write(session: Session) -> models.Endpoint:
        row = endpoints.get(session, account_id(), path.webhook_id)
        endpoints.disable(session, row, DisabledReason.BY_ACCOUNT, "by the account", actor())
        return row

    return _written(write)


@blueprint.get(
    "/<webhook_id>/deliveries",
    operation_id="list_deliveries",
    responses={200: schemas.DeliveryList, **problem(404, 422)},
)
def sent(path: schemas.WebhookPath, query: schemas.DeliveryQuery) -> Response:
    """List what was and is owed to a webhook, the newest first."""
    with stores().database.read() as session:
        endpoint = endpoints.get(session, account_id(), path.webhook_id)
        rows = deliveries.of_endpoint(session, endpoint, query.limit + 1, query.after, query.state, query.type)
    page = [schemas.Delivery.of(row, event) for row, event in rows[: query.limit]]
    first, last = (page[0].id, page[-1].id) if page else (None, None)
    return _json(schemas.DeliveryList(data=page, has_more=len(rows) > query.limit, first_id=first, last_id=last))


@blueprint.get(
    "/<webhook_id>/deliveries/<delivery_id>/attempts",
    operation_id="list_attempts",
    responses={200: schemas.AttemptList, **problem(404)},
)
def attempts(path: schemas.DeliveryPath) -> Response:
    """List the tries of a delivery: status, latency, and the beginning of what was answered."""
    with stores().database.read() as session:
        row, _ = deliveries.get(session, account_id(), path.webhook_id, path.delivery_id)
        rows = deliveries.attempts(session, row)
    return _json(schemas.AttemptList(data=[schemas.Attempt.model_validate(row) for row in rows]))


@blueprint.post(
    "/<webhook_id>/replay",
    operation_id="replay_events",
    responses={202: schemas.Replayed, **problem(400, 404, 409, 413, 415, 422)},
)
def replay(path: schemas.WebhookPath, body: schemas.Replay) -> Response:
    """Send events once more.

    One by its id; or those of a time range that this webhook subscribes to and that did not arrive, a thousand a
    request. They keep their ids. What is still on its way is not doubled: it is tried at once.
    """
    with stores().database.write() as session:
        endpoint = endpoints.get_enabled(session, account_id(), path.webhook_id)
        if body.event_id is not None:
            replays.replay(session, endpoint, body.event_id)
            answer = schemas.Replayed(count=1, has_more=False, last_id=body.event_id)
        else:
            assert body.since is not None  # noqa: S101 - the schema wants one of both
            done = replays.replay_range(
                session, endpoint, body.since, body.until, after=body.after, delivered=body.delivered
            )
            answer = schemas.Replayed(count=done.count, has_more=done.has_more, last_id=done.last)
    return _json(answer, HTTPStatus.ACCEPTED)


@blueprint.get(
    "/<webhook_id>/notices", operation_id="list_notices", responses={200: schemas.NoticeList, **problem(404, 422)}
)
def notices(path: schemas.WebhookPath, query: schemas.NoticeQuery) -> Response:
    """List what became of a webhook and why, the newest first."""
    with stores().database.read() as session:
        rows = endpoints.notices(session, account_id(), path.webhook_id, query.limit + 1, query.after)
    page = [schemas.Notice.model_validate(row) for row in rows[: query.limit]]
    first, last = (page[0].id, page[-1].id) if page else (None, None)
    return _json(schemas.NoticeList(data=page, has_more=len(rows) > query.limit, first_id=first, last_id=last))


def _written(write: Callable[[Session], models.Endpoint]) -> Response:
    with stores().database.write() as session:
        row = write(session)
    return _json(schemas.Webhook.of(row))


def check_url(url: str) -> None:
    """Raises UnsafeUrl for a URL that nothing will be sent to. Looks its host up."""
    endpoints.check_url(url, allow_loopback=stores().settings.egress_allow_loopback)


def seal() -> Seal:
    """What encrypts secrets where they rest, under a key that is derived from the one that signs sessions."""
    return Seal(str(current_app.secret_key))


def _json(body: BaseModel, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Response:
    return Response(body.model_dump_json(), status, headers, mimetype="application/json")
