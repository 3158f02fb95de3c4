"""The Flask application, put together."""

from datetime import timedelta
from http import HTTPStatus

from flask import Flask, Response, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from werkzeug.middleware.proxy_fix import ProxyFix

from api import (
    assets,
    cases,
    docs,
    entrance,
    errors,
    explanations,
    health,
    items,
    jobs,
    keys,
    limits,
    manage,
    pages,
    policy,
    rejections,
    review,
    schemas,
    uploads,
    webhook_pages,
    webhooks,
)
from api.auth import SessionCookies, form_token
from api.problems import LOCKED_DOWN, Problem
from api.stores import Poker, Pulse, Stores
from shield import sessions
from shield.blobs import open_blobs
from shield.db import Database
from shield.errors import SettingsError
from shield.queue import CeleryQueue, Queue
from shield.secret import secret_key
from shield.settings import Settings

API_VERSION = "1.0.0"
FIELD_MEMORY = 256 * 1024  # bytes of one text field, and of the multipart reader's buffer


def create_app(settings: Settings, queue: Queue | None = None) -> Flask:
    """The API over these settings. `queue` stands in for Redis in tests and single-process tools.

    Raises SettingsError without a Redis URL, where no queue is given, and for a malformed SHIELD_BLOBS.
    """
    app = OpenAPI(
        __name__,
        info=Info(title="Deepfake Shield", version=API_VERSION, description="Scan images in bulk for face forgeries."),
        security_schemes={"key": {"type": "http", "scheme": "bearer", "bearerFormat": "dfs_live_..."}},
        doc_ui=False,
        validation_error_model=Problem,
        validation_error_callback=errors.invalid_request,
    )
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_request_bytes,
        MAX_FORM_PARTS=2 * settings.max_items + 10,  # a file and a custom_id an item, and the other fields
        MAX_FORM_MEMORY_SIZE=FIELD_MEMORY,
        SECRET_KEY=secret_key(settings),
        SESSION_COOKIE_NAME="shield",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(days=sessions.DAYS),
    )
    app.session_interface = SessionCookies()
    database = Database(settings.database)
    queue = queue or redis_queue(settings)
    blobs = open_blobs(settings)
    blobs.remove_stale()
    app.extensions["shield"] = Stores(settings, database, blobs, Poker(database, queue), Pulse(queue))
    keyed = (
        jobs.blueprint,
        rejections.blueprint,
        items.blueprint,
        uploads.blueprint,
        webhooks.blueprint,
        keys.blueprint,
        cases.blueprint,
    )
    for blueprint in (*keyed, uploads.content, health.blueprint):
        app.register_api(blueprint)
    app.components_schemas |= schemas.components()
    looked_at = (
        docs.blueprint,
        entrance.blueprint,
        pages.blueprint,
        manage.blueprint,
        policy.blueprint,
        webhook_pages.blueprint,
        review.blueprint,
        explanations.blueprint,
    )
    for plain in looked_at:
        app.register_blueprint(plain)
    errors.install(app)
    limits.install(app, settings)
    if settings.proxies:
        count = settings.proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)  # type: ignore[method-assign]
    app.before_request(_count_body)
    app.after_request(_add_headers)
    app.jinja_env.globals["form_token"] = form_token
    assets.install(app)
    return app


def redis_queue(settings: Settings) -> CeleryQueue:
    """The queue of these settings; connects when it is first used. Raises SettingsError without a Redis URL."""
    if not settings.redis_url:
        raise SettingsError("SHIELD_REDIS_URL is empty: name a Redis, or start everything with `python -m shield up`")
    return CeleryQueue(settings.redis_url)


def _count_body() -> None:
    """Let a body shorter than its Content-Length be an error: gunicorn ends it as if it were whole."""
    if request.environ.get("CONTENT_LENGTH"):
        request.environ.pop("wsgi.input_terminated", None)  # then werkzeug counts


def _add_headers(response: Response) -> Response:
    if response.status_code == HTTPStatus.NO_CONTENT:
        response.headers.remove("Content-Type")
    for name, text in LOCKED_DOWN.items():
        response.headers.setdefault(name, text)
    return response
