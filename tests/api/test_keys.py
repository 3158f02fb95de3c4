"""/v1/keys, and signing in with a password."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from api.app import create_app
from shield import accounts, audit, db, moderators
from shield.states import Role
from tests.api.conftest import PATIENCE, House, form_token

PASSWORD = "correct horse battery"


def test_a_key_is_made_shown_once_used_and_revoked(house: House) -> None:
    made = house.post("/v1/keys", json={"name": "dashboard", "scopes": ["jobs:read"], "days": 30})
    assert made.status_code == 201
    body = made.get_json()
    key = body.pop("key")
    assert body["scopes"] == ["jobs:read"]
    assert body["hint"] == key[-4:]
    bearer = {"Authorization": f"Bearer {key}"}
    assert house.client.get("/v1/jobs", headers=bearer).status_code == 200
    listed = house.get("/v1/keys")
    assert key not in listed.text
    assert house.key not in listed.text
    _, row = listed.get_json()["data"]
    assert row["last_used_at"] is not None
    assert row | {"last_used_at": None} == body
    revoked = house.client.delete(f"/v1/keys/{body['id']}", headers=house.bearer)
    assert revoked.get_json()["revoked_at"] is not None
    assert house.client.get("/v1/jobs", headers=bearer).status_code == 401
    with house.database.read() as session:
        actions = [entry.action for entry in audit.newest(session, house.account_id, 2)]
        assert actions == ["key.revoked", "key.created"]
        assert audit.verify(session).entries == 4


def test_a_key_gives_no_more_than_it_has(house: House) -> None:
    made = house.post("/v1/keys", json={"scopes": ["admin", "jobs:read"]}).get_json()
    bearer = {"Authorization": f"Bearer {made['key']}"}
    answer = house.client.post("/v1/keys", headers=bearer, json={"scopes": ["jobs:read", "review"]})
    assert (answer.status_code, answer.get_json()["code"]) == (403, "scope_missing")
    assert "review" in answer.get_json()["detail"]
    assert house.client.post("/v1/keys", headers=bearer, json={"scopes": ["jobs:read"]}).status_code == 201


def test_a_key_makes_none_that_outlives_it(house: House) -> None:
    made = house.post("/v1/keys", json={"scopes": ["admin"], "days": 2}).get_json()
    bearer = {"Authorization": f"Bearer {made['key']}"}
    child = house.client.post("/v1/keys", headers=bearer, json={"scopes": ["admin"]}).get_json()
    assert child["expires_at"] == made["expires_at"]
    answer = house.client.post("/v1/keys", headers=bearer, json={"scopes": ["admin"], "days": 3})
    assert (answer.status_code, answer.get_json()["code"]) == (403, "scope_missing")
    assert house.client.post("/v1/keys", headers=bearer, json={"scopes": ["admin"], "days": 1}).status_code == 201


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/scopes"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["everything"]}, "/scopes/0"),
        ({"scopes": ["admin"], "days": 0}, "/days"),
        ({"scopes": ["admin"], "days": 1e9}, "/days"),
        ({"scopes": ["admin"], "days": 1e-6}, "/days"),
        ({"scopes": ["admin"], "days": "30"}, "/days"),
        ({"scopes": ["admin"], "days": True}, "/days"),
        ({"scopes": ["admin"], "name": "x" * 201}, "/name"),
        ({"scopes": ["admin"], "name": "read\u202enimda"}, "/name"),
        ({"scopes": ["admin"], "name": "read\x1b[2J"}, "/name"),
        ({"scopes": ["admin"], "owner": "me"}, "/owner"),
    ],
)
def test_what_is_no_key_says_where(house: House, body: dict[str, object], pointer: str) -> None:
    answer = house.post("/v1/keys", json=body)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.get_json()["errors"]] == [pointer]


def test_a_key_is_taken_at_once_while_another_writes_and_that_it_is_used_is_noted_later(
    build: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "BUSY_SECONDS", 3600)
    house = build()
    with house.database.write() as session, ThreadPoolExecutor(1) as threads:
        session.execute(text("select 1"))
        for _ in range(2):
            assert threads.submit(house.get, "/v1/jobs").result(PATIENCE).status_code == 200
    assert house.get("/v1/jobs").status_code == 200
    with house.database.read() as session:
        [key] = accounts.keys(session, house.account_id)
        assert key.used_at is None  # tried a moment ago
    another_process = create_app(house.settings, house.queue).test_client()
    assert another_process.get("/v1/jobs", headers=house.bearer).status_code == 200
    with house.database.read() as session:
        [key] = accounts.keys(session, house.account_id)
        assert key.used_at is not None


def person(house: House, role: Role = Role.MODERATOR) -> str:
    hashed = moderators.hash_password(PASSWORD)
    with house.database.write() as session:
        return moderators.create(session, house.account_id, "robin", hashed, role, audit.OPERATOR).id


def test_a_moderator_signs_in_and_out_and_is_locked_out_at_once(house: House) -> None:
    robin = person(house)
    client = house.app.test_client()
    form = form_token(client.get("/login"))
    wrong = client.post("/login", data={"form_token": form, "name": "robin", "password": "wrong"})
    assert wrong.status_code == 401
    assert "Not signed in" in wrong.text
    assert "Recent jobs" not in client.get("/").text
    good = {"form_token": form, "name": "robin", "password": PASSWORD}
    assert client.post("/login", data=good).status_code == 303
    assert "Nobody is signed in" not in client.get("/").text
    job_id = house.submit(1)
    assert client.get(f"/jobs/{job_id}").status_code == 200
    with house.database.write() as session:
        row = moderators.find(session, house.account_id, robin)
        moderators.set_disabled(session, row, True, audit.OPERATOR)
    assert client.get(f"/jobs/{job_id}").status_code == 401
    assert client.post("/login", data=good).status_code in (401, 403)


def test_who_tries_to_sign_in_is_noted_by_the_network_alone(house: House) -> None:
    client = house.app.test_client()
    form = {"form_token": form_token(client.get("/login")), "name": "robin", "password": "wrong"}
    for address, network in (
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("192.0.2.77:4711", "192.0.2.0/24"),  # as some proxies tell it
        ("[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1::/48"),
        ("", "unknown"),
    ):
        client.post("/login", data=form, environ_base={"REMOTE_ADDR": address})
        with house.database.read() as session:
            [entry] = audit.newest(session, None, 1)
            assert (entry.action, json.loads(entry.detail)) == ("moderator.sign_in_refused", {"network": network})


def test_a_cookie_over_https_is_for_this_host_alone(house: House) -> None:
    answer = house.client.get("/login", base_url="https://localhost")
    assert form_token(answer)
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-shield=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie


def test_keys_are_made_and_revoked_in_the_browser(house: House) -> None:
    house.sign_in(house.client)
    page = house.client.get("/keys")
    assert f"…{house.key[-4:]}" in page.text
    form = {"form_token": form_token(page), "name": "<b>crawler</b>", "days": "", "scope": ["jobs:write", "jobs:read"]}
    made = house.client.post("/keys", data=form)
    assert "&lt;b&gt;crawler" in made.text
    key = made.text.partition('<code id="secret">')[2].partition("<")[0]
    assert house.client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert key not in house.client.get("/keys").text
    with house.database.read() as session:
        key_id = accounts.identify(session, key).id
    assert house.client.post(f"/keys/{key_id}/revoke", data=form).status_code == 303
    assert house.client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    with house.database.read() as session:
        assert audit.newest(session, house.account_id, 1)[0].actor == "link"


@pytest.mark.parametrize("wrong", [{"scope": []}, {"scope": ["everything"]}, {"days": "-1"}, {"days": "soon"}])
def test_a_form_that_makes_no_key_says_why(house: House, wrong: dict[str, object]) -> None:
    house.sign_in(house.client)
    form = {"form_token": form_token(house.client.get("/keys")), "name": "x", "scope": ["jobs:read"]} | wrong
    answer = house.client.post("/keys", data=form)
    assert answer.status_code == 422
    assert "No key was made" in answer.text
    assert len(house.get("/v1/keys").get_json()["data"]) == 1
