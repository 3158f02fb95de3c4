"""/v1/keys: an account's API keys. A key is shown when it is made, and never again."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Self

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.auth import account_id, actor, asking_key, requires
from api.bodies import check_json
from api.problems import PROBLEMS, problem
from api.stores import stores
from shield import accounts, models, names
from shield.errors import ScopeMissing
from shield.states import Scope

KEY_ID = r"^key_[0-9a-f]{27}$"
NAME = rf"^[^{names.UNSEEN}]*$"


class NewKey(BaseModel):
    """What a key is called, what it may do, and for how long."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(max_length=names.LONGEST, pattern=NAME)] = Field(
        "", description="For people."
    )
    scopes: list[Scope] = Field(min_length=1, description="No more than the key has that asks.")
    days: float | None = Field(
        None,
        strict=True,
        ge=accounts.LEAST_DAYS,
        le=accounts.MOST_DAYS,
        description="After which it expires, no later than the key that asks. Absent: with that one, or never.",
    )


class ApiKey(BaseModel):
    """A key without its secret."""

    id: str = Field(examples=["key_019aa0b1c2d0123456789abcdef"])
    name: str
    hint: str = Field(description="Its last four characters.")
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: models.ApiKey) -> Self:
        """A key's row as it is shown."""
        return cls(**_shown(row))


class ApiKeyMade(ApiKey):
    """A new key with its secret."""

    key: str = Field(description="Shown this once.", examples=["dfs_live_..."])


class ApiKeyList(BaseModel):
    """All keys of the account, oldest first, also those that are revoked or have expired."""

    data: list[ApiKey]


class KeyPath(BaseModel):
    """The key in the URL."""

    key_id: str = Field(pattern=KEY_ID)


blueprint = APIBlueprint(
    "keys",
    __name__,
    url_prefix="/v1/keys",
    abp_tags=[Tag(name="keys", description="API keys: what each may do, and when it was last used.")],
    abp_security=[{"key": []}],
    abp_responses=PROBLEMS,
)
blueprint.before_request(requires(Scope.ADMIN, Scope.ADMIN))
blueprint.before_request(check_json)


@blueprint.post("", operation_id="create_key", responses={201: ApiKeyMade, **problem(400, 413, 415, 422)})
def create(body: NewKey) -> Response:
    """Make an API key. It may do no more than the key that asks, and no longer."""
    asking = asking_key()
    if missing := set(body.scopes) - asking.scopes:
        raise ScopeMissing(f"a key cannot give what it does not have itself: {', '.join(sorted(missing))}")
    with stores().database.write() as session:
        secret = accounts.create_key(
            session, account_id(), body.name, body.scopes, body.days, actor(), asking.expires_at
        )
        row = session.get_one(models.ApiKey, accounts.identify(session, secret).id)
        made = ApiKeyMade(**_shown(row), key=secret)
    return _json(made, HTTPStatus.CREATED)


@blueprint.get("", operation_id="list_keys", responses={200: ApiKeyList})
def all_of_them() -> Response:
    """List API keys."""
    with stores().database.read() as session:
        rows = accounts.keys(session, account_id())
    return _json(ApiKeyList(data=[ApiKey.of(row) for row in rows]))


@blueprint.delete("/<key_id>", operation_id="revoke_key", responses={200: ApiKey, **problem(404)})
def revoke(path: KeyPath) -> Response:
    """Revoke an API key.

    It opens nothing from the next request on. It stays in the list; revoking it again changes nothing.
    """
    with stores().database.write() as session:
        shown = ApiKey.of(accounts.revoke_key(session, account_id(), path.key_id, actor()))
    return _json(shown)


def _shown(row: models.ApiKey) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "hint": row.hint,
        "scopes": row.scopes,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "last_used_at": row.used_at,
        "revoked_at": row.revoked_at,
    }


def _json(body: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(body.model_dump_json(), status, mimetype="application/json")
