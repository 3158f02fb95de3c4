"""Every route against everybody who may knock. A route without a row in the matrix fails."""

import stat
from pathlib import Path

import pytest
from sqlalchemy import update

from shield import accounts, audit, cases, deliveries, endpoints, moderators
from shield.db import now
from shield.models import ApiKey
from shield.secret import Seal, secret_key
from shield.settings import Settings
from shield.states import EventType, Role, Scope
from tests.api.conftest import House, face, form_token

OPEN, SESSION = "anybody", "a browser session"
READ, WRITE, REVIEW, ADMIN = Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.REVIEW, Scope.ADMIN  # of an API key
MATRIX = {
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
    "GET /openapi.json": OPEN,
    "GET /docs": OPEN,
    "GET /docs/assets/<path:filename>": OPEN,
    "GET /static/<path:filename>": OPEN,
    "GET /": OPEN,  # a welcome without a session, the account's jobs with one: see test_pages
    "GET /session/<token>": OPEN,
    "POST /session/<token>": OPEN,  # the token is the proof; the form's own token keeps other sites out
    "GET /login": OPEN,
    "POST /login": OPEN,  # the password is the proof; the form's own token keeps other sites out
    "POST /logout": OPEN,
    "POST /v1/jobs": WRITE,
    "GET /v1/jobs": READ,
    "GET /v1/jobs/<job_id>": READ,
    "GET /v1/jobs/<job_id>/items": READ,
    "GET /v1/jobs/<job_id>/results": READ,
    "GET /v1/jobs/<job_id>/rejections": READ,
    "POST /v1/jobs/<job_id>/cancel": WRITE,
    "POST /v1/jobs/<job_id>/retry": WRITE,
    "DELETE /v1/jobs/<job_id>": WRITE,
    "POST /v1/uploads": WRITE,
    "PUT /v1/uploads/<upload_id>/content": OPEN,  # to whoever has its signature: see test_uploads
    "POST /v1/webhooks": ADMIN,
    "GET /v1/webhooks": ADMIN,
    "GET /v1/webhooks/<webhook_id>": ADMIN,
    "PATCH /v1/webhooks/<webhook_id>": ADMIN,
    "DELETE /v1/webhooks/<webhook_id>": ADMIN,
    "POST /v1/webhooks/<webhook_id>/rotate": ADMIN,
    "POST /v1/webhooks/<webhook_id>/test": ADMIN,
    "POST /v1/webhooks/<webhook_id>/enable": ADMIN,
    "POST /v1/webhooks/<webhook_id>/disable": ADMIN,
    "POST /v1/webhooks/<webhook_id>/replay": ADMIN,
    "GET /v1/webhooks/<webhook_id>/notices": ADMIN,
    "GET /v1/webhooks/<webhook_id>/deliveries": ADMIN,
    "GET /v1/webhooks/<webhook_id>/deliveries/<delivery_id>/attempts": ADMIN,
    "POST /v1/keys": ADMIN,
    "GET /v1/keys": ADMIN,
    "DELETE /v1/keys/<key_id>": ADMIN,
    "GET /v1/cases": REVIEW,
    "GET /v1/cases/<case_id>": REVIEW,
    "POST /v1/cases/<case_id>/decision": REVIEW,
    "GET /v1/decisions": REVIEW,
    "GET /v1/items/<item_id>": READ,
    "GET /v1/items/<item_id>/view": READ,
    "GET /policy": SESSION,
    "POST /policy/draft": SESSION,
    "GET /policy/preview": SESSION,
    "POST /policy/publish": SESSION,
    "POST /policy/discard": SESSION,
    "POST /policy/rollback": SESSION,
    "GET /policy/fit": SESSION,
    "GET /review": SESSION,
    "GET /review/decided": SESSION,
    "POST /review/next": SESSION,
    "POST /review/bulk": SESSION,
    "POST /review/preferences": SESSION,
    "GET /review/cases/<case_id>": SESSION,
    "POST /review/cases/<case_id>/claim": SESSION,
    "POST /review/cases/<case_id>/renew": SESSION,
    "POST /review/cases/<case_id>/release": SESSION,
    "POST /review/cases/<case_id>/decide": SESSION,
    "POST /review/cases/<case_id>/undo": SESSION,
    "GET /keys": SESSION,
    "POST /keys": SESSION,
    "POST /keys/<key_id>/revoke": SESSION,
    "GET /webhooks": SESSION,
    "POST /webhooks": SESSION,
    "GET /webhooks/<webhook_id>": SESSION,
    "POST /webhooks/<webhook_id>/change": SESSION,
    "POST /webhooks/<webhook_id>/rotate": SESSION,
    "POST /webhooks/<webhook_id>/test": SESSION,
    "POST /webhooks/<webhook_id>/enable": SESSION,
    "POST /webhooks/<webhook_id>/disable": SESSION,
    "POST /webhooks/<webhook_id>/delete": SESSION,
    "POST /webhooks/<webhook_id>/replay": SESSION,
    "GET /webhooks/<webhook_id>/deliveries/<delivery_id>": SESSION,
    "POST /webhooks/<webhook_id>/deliveries/<delivery_id>/replay": SESSION,
    "POST /uploads": SESSION,
    "POST /jobs": SESSION,
    "GET /jobs/<job_id>": SESSION,
    "POST /jobs/<job_id>/cancel": SESSION,
    "POST /jobs/<job_id>/retry": SESSION,
    "POST /jobs/<job_id>/delete": SESSION,
    "GET /jobs/<job_id>/results.jsonl": SESSION,
    "GET /jobs/<job_id>/results.csv": SESSION,
    "GET /items/<item_id>": SESSION,
    "GET /items/<item_id>/view": SESSION,
    "POST /items/<item_id>/explain": SESSION,
    "GET /items/<item_id>/explanation": SESSION,
    "GET /items/<item_id>/faces/<ordinal>/crop": SESSION,
    "GET /items/<item_id>/faces/<ordinal>/heatmap": SESSION,
}


UNKNOWN = {
    "job_id": "job_" + "0" * 27,
    "item_id": "itm_" + "0" * 27 + "_0000000",
    "webhook_id": "whk_" + "0" * 27,
    "delivery_id": "dlv_" + "0" * 27,
    "key_id": "key_" + "0" * 27,
    "case_id": "cas_" + "0" * 27,
    "ordinal": "0",
}
# What a route wants to be told before it looks for anything.
BODIES: dict[str, dict[str, str]] = {
    "PATCH /v1/webhooks/<webhook_id>": {},
    "POST /v1/cases/<case_id>/decision": {"answer": "uphold"},
    "POST /v1/webhooks/<webhook_id>/replay": {"event_id": "evt_" + "0" * 27},
}


def filled(route: str, ids: dict[str, str]) -> tuple[str, str]:
    method, path = route.split()
    for name, value in ids.items():
        path = path.replace(f"<{name}>", value)
    return method, path.replace("<token>", "x")


def test_every_route_has_a_row(house: House) -> None:
    routes = {f"{method} {rule.rule}" for rule in house.app.url_map.iter_rules() for method in rule.methods or ()}
    assert {route for route in routes if not route.startswith(("HEAD ", "OPTIONS "))} == set(MATRIX)


@pytest.fixture
def work(house: House) -> dict[str, str]:
    """A job, an item and a webhook of the house's account, and what the webhook is owed."""
    with house.database.write() as session:
        webhook, _ = endpoints.create(
            session, house.account_id, Seal("k"), "https://acme.example/", [EventType.JOB_ENDED]
        )
    job_id = house.submit(1)
    house.scan_all(face(0.9))
    house.explain(house.items(job_id)[0].id)
    with house.database.read() as session:
        [(delivery, _)] = deliveries.of_endpoint(session, webhook, 10)
        key_id = accounts.identify(session, house.key).id
        [case] = cases.queue(session, house.account_id, Role.LEAD, 10)
    return {
        "job_id": job_id,
        "item_id": house.items(job_id)[0].id,
        "webhook_id": webhook.id,
        "delivery_id": delivery.id,
        "key_id": key_id,
        "case_id": case.id,
        "ordinal": "0",
    }


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic {key}",
        "{key}",
        "Bearer dfs_live_short",
        "Bearer {unknown}",
        "Bearer {revoked}",
    ],
)
def test_without_a_good_key_the_answer_is_401(house: House, work: dict[str, str], header: str | None) -> None:
    revoked_id, revoked = house.new_account("former")
    with house.database.write() as session:
        session.execute(update(ApiKey).where(ApiKey.account_id == revoked_id).values(revoked_at=now(session)))
    keys = {"key": house.key, "unknown": accounts.ALPHABET[:30], "revoked": revoked}
    keys["unknown"] = f"dfs_live_{keys['unknown']}{accounts._checksum(keys['unknown'])}"
    headers = {} if header is None else {"Authorization": header.format(**keys)}
    house.sign_in(house.client)  # a browser's session opens no route of the API
    for route in (route for route, who in MATRIX.items() if isinstance(who, Scope)):
        method, path = filled(route, work)
        answer = house.client.open(path, method=method, headers=headers)
        assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), route
        assert answer.get_json()["code"] == "unauthorised"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert not any(key in answer.text for key in keys.values())


def test_with_a_good_key_the_api_is_open_and_with_a_session_the_pages_are(house: House, work: dict[str, str]) -> None:
    for route in (route for route in MATRIX if route.startswith("GET ") and "<path:" not in route):
        method, path = filled(route, work)
        client = house.app.test_client()
        if MATRIX[route] == SESSION:
            house.sign_in(client)
        answer = client.open(path, method=method, headers=house.bearer if isinstance(MATRIX[route], Scope) else {})
        assert answer.status_code == 200, route


@pytest.mark.parametrize("scope", list(Scope))
def test_a_key_opens_what_its_scope_opens_and_nothing_else(house: House, work: dict[str, str], scope: Scope) -> None:
    with house.database.write() as session:
        key = accounts.create_key(session, house.account_id, scopes=[scope])
    headers = {"Authorization": f"Bearer {key}"}
    for route, needed in MATRIX.items():
        if not isinstance(needed, Scope) or (needed == scope and not route.startswith("GET ")):
            continue
        method, path = filled(route, work)
        answer = house.client.open(path, method=method, headers=headers)
        assert answer.status_code == (200 if needed == scope else 403), route
        if needed != scope:
            assert answer.get_json()["code"] == "scope_missing", route
            assert needed in answer.get_json()["detail"]


@pytest.mark.parametrize("who", ["nobody", "a key", "a forged cookie", "an account that is gone"])
def test_without_a_session_the_pages_stay_closed(house: House, work: dict[str, str], who: str) -> None:
    client = house.app.test_client()
    if who == "a forged cookie":
        client.set_cookie("shield", "eyJhY2NvdW50IjoiYWNjXzEifQ.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb")
    elif who == "an account that is gone":
        with client.session_transaction() as session:
            session["account"] = "acc_gone"
    headers = house.bearer if who == "a key" else {}
    for route in (route for route, who in MATRIX.items() if who == SESSION):
        method, path = filled(route, work)
        answer = client.open(path, method=method, headers=headers)
        assert (answer.status_code, answer.mimetype) == (401, "text/html"), route
        assert "python -m shield link" in answer.text


def test_another_accounts_id_reads_like_an_unknown_one(house: House, work: dict[str, str]) -> None:
    other_id, key = house.new_account("other")
    client = house.app.test_client()
    house.let_in(client, other_id)
    for route in (route for route, who in MATRIX.items() if "_id>" in route and who != OPEN):
        headers = {"Authorization": f"Bearer {key}"} if isinstance(MATRIX[route], Scope) else {}
        answers = []
        for ids in (work, UNKNOWN):
            method, path = filled(route, ids)
            data = {"form_token": "t"} if method == "POST" and MATRIX[route] == SESSION else None
            answer = client.open(path, method=method, headers=headers, data=data, json=BODIES.get(route))
            text = answer.text
            for found in ids.values():
                text = text.replace(found, "ID")
            answers.append((answer.status_code, text))
        assert answers[0] == answers[1], route
        assert answers[0][0] == 404


def test_another_accounts_work_is_in_no_list(house: House, work: dict[str, str]) -> None:
    other_id, key = house.new_account("other")
    answer = house.client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})
    assert answer.get_json()["data"] == []
    assert house.client.get("/v1/webhooks", headers={"Authorization": f"Bearer {key}"}).get_json()["data"] == []
    keys = house.client.get("/v1/keys", headers={"Authorization": f"Bearer {key}"}).get_json()["data"]
    assert [row["hint"] for row in keys] == [key[-4:]]
    client = house.app.test_client()
    house.let_in(client, other_id)
    assert work["job_id"] not in client.get("/").text


FOR_ADMINS = ("/keys", "/policy", "/webhooks")
ADMINS = {route for route, who in MATRIX.items() if who == SESSION and route.split()[1].startswith(FOR_ADMINS)}
ADMINS.add("POST /jobs/<job_id>/delete")


@pytest.mark.parametrize("role", list(Role))
def test_a_role_opens_what_it_opens_and_nothing_else(house: House, work: dict[str, str], role: Role) -> None:
    with house.database.write() as session:
        person = moderators.create(session, house.account_id, "robin", "no password", role, audit.OPERATOR)
    client = house.app.test_client()
    house.let_in(client, house.account_id, person.id)
    for route in (route for route, who in MATRIX.items() if who == SESSION):
        method, path = filled(route, work)
        answer = client.open(path, method=method, content_type="multipart/form-data" if method == "POST" else None)
        if route in ADMINS and role != Role.ADMIN:
            assert (answer.status_code, b"role admin" in answer.data) == (403, True), route
        else:  # the form's token is what is missing
            assert answer.status_code == (403 if method == "POST" else 200), route
            assert b"role admin" not in answer.data


@pytest.mark.parametrize("token", [None, "", "wrong", "täuschung"])
def test_a_form_without_its_token_changes_nothing(house: House, work: dict[str, str], token: str | None) -> None:
    house.sign_in(house.client)
    before = house.get("/v1/jobs").get_json()
    forms = [route for route, who in MATRIX.items() if route.startswith("POST ") and not isinstance(who, Scope)]
    assert len(forms) > 10
    for route in forms:
        method, path = filled(route, work)
        data = {} if token is None else {"form_token": token}
        answer = house.client.open(path, method=method, data=data, content_type="multipart/form-data")
        assert (answer.status_code, answer.mimetype) == (403, "text/html"), route
    assert house.get("/v1/jobs").get_json() == before
    assert "Recent jobs" in house.client.get("/").text


def test_the_secret_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "var", _env_file=None)
    first = secret_key(settings)
    path = tmp_path / "var" / "secret"
    assert len(first) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret_key(settings) == first
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]
    given = Settings(home=tmp_path, secret_key="from the settings", _env_file=None)
    assert secret_key(given) == "from the settings"


def test_an_unspent_link_stays_out_of_the_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with house.database.write() as session:
        token = accounts.create_link(session, house.account_id)
    form = form_token(house.client.get(f"/session/{token}"))
    house.database.close()
    for path in house.settings.home.glob("shield.db*"):
        path.unlink()
    (house.settings.home / "shield.db").mkdir()
    assert house.client.post(f"/session/{token}", data={"form_token": form}).status_code == 503
    assert "/session/<token>" in caplog.text
    assert token not in caplog.text


def test_a_form_that_anyone_may_send_is_read_to_a_small_limit(house: House) -> None:
    for path in ("/session/x", "/login", "/logout"):
        assert house.client.post(path, data={"form_token": "t" * 5000}).status_code == 413
