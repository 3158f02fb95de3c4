"""Who is locked out while a body is on the way: the request began in time, and does nothing any more."""

import io
import json
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from shield import accounts, audit, moderators, sessions
from shield.models import ApiKey, Base, BrowserSession, Endpoint, Job, Upload
from shield.states import Role
from tests.api.conftest import House

PASSWORD_HASH = "none"
FORM = "application/x-www-form-urlencoded"
FILE = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\nx\r\n--b--\r\n'
SENT_WITH_A_KEY = {
    "/v1/keys": ("application/json", b'{"scopes": ["admin"]}', ApiKey),
    "/v1/webhooks": ("application/json", b'{"url": "https://acme.example/", "events": ["job.ended"]}', Endpoint),
    "/v1/uploads": ("application/json", b'{"count": 1}', Upload),
    "/v1/jobs?name=json": ("application/json", b'{"items": [{"url": "https://acme.example/a.jpg"}]}', Job),
    "/v1/jobs?name=manifest": ("application/jsonl", b'{"url": "https://acme.example/a.jpg"}\n', Job),
    "/v1/jobs?name=files": ("multipart/form-data; boundary=b", FILE, Job),
}


class Body(io.BytesIO):
    """A body, before whose first byte something happens."""

    def __init__(self, content: bytes, happens: Callable[[], None]) -> None:
        super().__init__(content)
        self._happens: Callable[[], None] | None = happens

    def read(self, size: int | None = -1, /) -> bytes:
        if self._happens is not None:
            happens, self._happens = self._happens, None
            happens()
        return super().read(size)

    def readinto(self, buffer: "memoryview[int]", /) -> int:  # type: ignore[override]
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def send(house: House, path: str, kind: str, content: bytes, happens: Callable[[], None], **more: str) -> TestResponse:
    headers = {"Content-Type": kind, "Content-Length": str(len(content)), **more}
    return house.client.post(path, input_stream=Body(content, happens), headers=headers)


def count(house: House, table: type[Base]) -> int:
    with house.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.mark.parametrize("path", SENT_WITH_A_KEY)
def test_a_key_that_is_revoked_while_a_body_comes_does_nothing_by_it(house: House, path: str) -> None:
    kind, content, table = SENT_WITH_A_KEY[path]

    def revoke() -> None:
        with house.database.write() as session:
            accounts.revoke_key(session, house.account_id, accounts.identify(session, house.key).id)

    assert send(house, path, kind, content, lambda: None, **house.bearer).status_code in (201, 202)
    before = count(house, table)
    answer = send(house, path, kind, content, revoke, **house.bearer)
    assert (answer.status_code, count(house, table)) == (401, before)


@pytest.fixture
def robin(house: House) -> str:
    """An admin, whom the house's browser is signed in as; the person's id."""
    with house.database.write() as session:
        row = moderators.create(session, house.account_id, "robin", PASSWORD_HASH, Role.ADMIN, audit.OPERATOR)
    house.let_in(house.client, house.account_id, row.id)
    return row.id


def change(house: House, robin: str, how: str) -> None:
    """What an operator does to a person: `disabled`, `password`, `role` or `session`."""
    with house.database.write() as session:
        row = moderators.find(session, house.account_id, robin)
        match how:
            case "disabled":
                moderators.set_disabled(session, row, True, audit.OPERATOR)
            case "password":
                moderators.set_password(session, row, "another", audit.OPERATOR)
            case "role":
                moderators.set_role(session, row, Role.MODERATOR, audit.OPERATOR)
            case _:
                mine = session.scalars(select(BrowserSession.id)).all()
                sessions.end(session, house.account_id, mine, audit.OPERATOR)


@pytest.mark.parametrize(("how", "status"), [("disabled", 401), ("password", 401), ("session", 401), ("role", 403)])
def test_a_person_who_is_locked_out_while_a_form_comes_makes_no_key_by_it(
    house: House, robin: str, how: str, status: int
) -> None:
    form = urlencode({"form_token": "t", "name": "late", "days": "", "scope": "admin"}).encode()
    assert send(house, "/keys", FORM, form, lambda: None).status_code == 200
    before = count(house, ApiKey)
    answer = send(house, "/keys", FORM, form, lambda: change(house, robin, how))
    assert (answer.status_code, count(house, ApiKey)) == (status, before)


def test_a_person_who_is_locked_out_while_photos_come_submits_none(house: House, robin: str) -> None:
    content = json.dumps({"items": [{"url": "https://acme.example/a.jpg"}]}).encode()
    token = {"X-Form-Token": "t"}
    assert send(house, "/jobs", "application/json", content, lambda: None, **token).status_code == 303
    answer = send(house, "/jobs", "application/json", content, lambda: change(house, robin, "disabled"), **token)
    assert (answer.status_code, count(house, Job)) == (401, 1)
