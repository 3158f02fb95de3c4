"""/v1/webhooks, as a customer sees it; what is sent is for tests/worker/test_deliver.py."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from shield import deliveries, endpoints
from shield.deliveries import Schedule, Try
from shield.models import Endpoint
from shield.secret import Seal, secret_key
from tests.api.conftest import House, face

URL = "https://93.184.216.34/hook"
SCHEDULE = Schedule((5.0,), 5.0)
EVENTS = ["job.ended", "job.canceled", "item.flagged", "item.failed", "case.decided", "case.reopened"]


def make(house: House, **body: Any) -> dict[str, Any]:
    answer = house.post("/v1/webhooks", json={"url": URL} | body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    assert answer.headers["Location"] == f"/v1/webhooks/{made['id']}"
    return made


def try_all(house: House, webhook_id: str, status: int) -> None:
    """Play the house: a try of all that is owed."""
    with house.database.write() as session:
        leased = deliveries.lease(session, {webhook_id: 100}, 60.0)
        deliveries.record(session, [Try(held, 7, status=status, answer="words") for held in leased], SCHEDULE)


def problem(answer: TestResponse) -> tuple[int, str, str | None]:
    """Status, code and pointer of a refusal."""
    assert answer.mimetype == "application/problem+json"
    body = answer.get_json()
    return answer.status_code, body["code"], body["errors"][0]["pointer"] if "errors" in body else None


def test_a_webhook_is_made_with_a_secret_that_is_shown_once(house: House) -> None:
    made = make(house)
    secret = made.pop("secret")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert made["events"] == EVENTS
    assert (made["url"], made["enabled"], made["disabled_reason"]) == (URL, True, None)
    assert house.get(f"/v1/webhooks/{made['id']}").get_json() == made
    listed = house.get("/v1/webhooks")
    assert listed.get_json() == {"data": [made]}
    assert "secret" not in listed.text.replace("old_secret_until", "")


def test_the_secret_rests_encrypted_under_the_installations_key(house: House) -> None:
    made = make(house)
    with house.database.read() as session:
        row = session.get_one(Endpoint, made["id"])
    assert made["secret"].encode() not in row.secret
    assert Seal(secret_key(house.settings)).open(row.secret, row.id) == made["secret"]


def test_a_secret_and_the_events_may_be_chosen(house: House) -> None:
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
    made = make(house, secret=secret, events=["job.ended", "job.ended"], description="ours")
    assert (made["secret"], made["events"], made["description"]) == (secret, ["job.ended"], "ours")


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"url": "https://127.0.0.1/"}, (422, "unsafe_url", "/url")),
        ({"url": "https://10.1.2.3/"}, (422, "unsafe_url", "/url")),
        ({"url": "https://[fd00::1]/"}, (422, "unsafe_url", "/url")),
        ({"url": "http://93.184.216.34/"}, (422, "unsafe_url", "/url")),
        ({"url": "nonsense"}, (422, "unsafe_url", "/url")),
        ({"url": ""}, (422, "invalid_request", "/url")),
        ({}, (422, "invalid_request", "/url")),
        ({"url": "https://a.example/" + "a" * 2048}, (422, "invalid_request", "/url")),
        ({"url": URL, "secret": "whsec_c2hvcnQ="}, (422, "weak_secret", "/secret")),
        ({"url": URL, "secret": "whsec_\u00e9"}, (422, "weak_secret", "/secret")),
        ({"url": URL, "secret": "password"}, (422, "weak_secret", "/secret")),
        ({"url": URL, "events": []}, (422, "invalid_request", "/events")),
        ({"url": URL, "events": ["job.begun"]}, (422, "invalid_request", "/events/0")),
        ({"url": URL, "events": ["endpoint.test"]}, (422, "invalid_request", "")),
        ({"url": URL, "colour": "red"}, (422, "invalid_request", "/colour")),
        ([], (422, "invalid_request", "")),
    ],
)
def test_what_cannot_become_a_webhook_is_refused_with_a_reason(
    house: House, body: Any, refusal: tuple[int, str, str]
) -> None:
    assert problem(house.post("/v1/webhooks", json=body)) == refusal
    assert house.get("/v1/webhooks").get_json() == {"data": []}


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_body"),
        (b"", "application/json", 400, "malformed_body"),
        (b"[" * 60_000, "application/json", 400, "malformed_body"),
        (b"url=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b'{"url": "' + b"a" * 70_000 + b'"}', "application/json", 413, "too_large"),
    ],
)
def test_a_body_that_is_not_read_is_refused(
    house: House, content: bytes, content_type: str, status: int, code: str
) -> None:
    answer = house.post("/v1/webhooks", data=content, content_type=content_type)
    assert problem(answer)[:2] == (status, code)


def test_in_development_loopback_may_be_sent_to(build: Callable[..., House]) -> None:
    assert make(build(egress_allow_loopback=True), url="http://127.0.0.1:8123/")["enabled"]


def test_a_webhook_is_changed_and_deleted(house: House) -> None:
    webhook = f"/v1/webhooks/{make(house)['id']}"
    changed = house.client.patch(webhook, headers=house.bearer, json={"events": ["job.canceled"]})
    assert (changed.status_code, changed.get_json()["events"], changed.get_json()["url"]) == (
        200,
        ["job.canceled"],
        URL,
    )
    refused = house.client.patch(webhook, headers=house.bearer, json={"url": "https://localhost/"})
    assert problem(refused) == (422, "unsafe_url", "/url")
    assert house.get(webhook).get_json() == changed.get_json()
    assert house.client.delete(webhook, headers=house.bearer).status_code == 204
    assert house.get(webhook).status_code == 404
    assert house.get("/v1/webhooks").get_json() == {"data": []}


@pytest.mark.parametrize("body", [{}, {"json": {}}])
def test_a_rotation_shows_the_new_secret_once(house: House, body: dict[str, Any]) -> None:
    made = make(house)
    answer = house.post(f"/v1/webhooks/{made['id']}/rotate", **body)
    assert answer.status_code == 200
    assert list(answer.get_json()) == ["secret"]
    assert answer.get_json()["secret"] != made["secret"]
    until = datetime.fromisoformat(house.get(f"/v1/webhooks/{made['id']}").get_json()["old_secret_until"])
    assert timedelta(hours=23) < until - datetime.now(UTC) <= timedelta(hours=24)


def test_a_secret_that_is_too_short_is_no_rotation(house: House) -> None:
    made = make(house)
    answer = house.post(f"/v1/webhooks/{made['id']}/rotate", json={"secret": "whsec_c2hvcnQ="})
    assert problem(answer) == (422, "weak_secret", "/secret")
    assert house.get(f"/v1/webhooks/{made['id']}").get_json()["old_secret_until"] is None


def test_a_test_is_owed_and_its_attempts_are_listed(house: House) -> None:
    webhook = f"/v1/webhooks/{make(house)['id']}"
    answer = house.post(f"{webhook}/test")
    assert answer.status_code == 202
    owed = answer.get_json()
    assert (owed["type"], owed["state"], owed["attempts"], owed["trigger"]) == ("endpoint.test", "pending", 0, "event")
    attempts = f"{webhook}/deliveries/{owed['id']}/attempts"
    assert house.get(attempts).get_json() == {"data": []}
    try_all(house, webhook.rpartition("/")[2], 500)
    [one] = house.get(attempts).get_json()["data"]
    assert one.pop("ended_at")
    assert one == {"number": 1, "latency_ms": 7, "status": 500, "error": None, "answer": "words"}
    assert house.get(f"{webhook}/deliveries").get_json()["data"][0]["state"] == "waiting"


def test_the_end_of_a_job_is_listed_filtered_and_replayed(house: House) -> None:
    webhook_id = make(house)["id"]
    webhook = f"/v1/webhooks/{webhook_id}"
    house.submit(1)
    house.scan_all(face(0.9))
    page = house.get(f"{webhook}/deliveries", limit=1).get_json()
    assert page["has_more"]
    rest = house.get(f"{webhook}/deliveries", after=page["last_id"]).get_json()
    assert (len(rest["data"]), rest["has_more"]) == (1, False)
    types = {row["type"]: row for row in page["data"] + rest["data"]}
    assert types.keys() == {"item.flagged", "job.ended"}
    [ended] = house.get(f"{webhook}/deliveries", type="job.ended", state="pending").get_json()["data"]
    assert ended == types["job.ended"]

    try_all(house, webhook_id, 200)
    assert house.get(f"{webhook}/deliveries", state="pending").get_json()["data"] == []
    answer = house.post(f"{webhook}/replay", json={"event_id": ended["event_id"]})
    assert (answer.status_code, answer.get_json()["count"]) == (202, 1)
    [again] = house.get(f"{webhook}/deliveries", state="pending").get_json()["data"]
    assert (again["event_id"], again["trigger"]) == (ended["event_id"], "replay")

    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    answer = house.post(f"{webhook}/replay", json={"since": hour_ago})
    assert answer.get_json() == {"count": 0, "has_more": False, "last_id": None}
    answer = house.post(f"{webhook}/replay", json={"since": hour_ago, "delivered": True})
    assert (answer.get_json()["count"], answer.get_json()["last_id"]) == (1, types["item.flagged"]["event_id"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"event_id": "evt_" + "0" * 27}, 404, "not_found"),
        ({"event_id": "nonsense"}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
        ({"event_id": "evt_" + "0" * 27, "since": "2026-05-04T03:02:01Z"}, 422, "invalid_request"),
        ({"since": "2026-05-04T03:02:01"}, 422, "invalid_request"),
        ({"since": "yesterday"}, 422, "invalid_request"),
    ],
)
def test_a_replay_of_what_is_not_there_is_refused_and_what_is_owed_stays(
    house: House, body: dict[str, Any], status: int, code: str
) -> None:
    webhook = f"/v1/webhooks/{make(house)['id']}"
    owed = house.post(f"{webhook}/test").get_json()
    assert problem(house.post(f"{webhook}/replay", json=body))[:2] == (status, code)
    assert house.get(f"{webhook}/deliveries").get_json()["data"] == [owed]


@pytest.mark.parametrize("until", [None, "9999-12-31T23:59:59-14:00"])
def test_a_replay_may_be_of_all_that_ever_happened(house: House, until: str | None) -> None:
    webhook = f"/v1/webhooks/{make(house)['id']}"
    answer = house.post(f"{webhook}/replay", json={"since": "0001-01-01T00:00:00+14:00", "until": until})
    assert (answer.status_code, answer.get_json()["count"]) == (202, 0)


def test_a_disabled_webhook_is_sent_nothing_until_it_is_enabled(house: House) -> None:
    webhook = f"/v1/webhooks/{make(house)['id']}"
    disabled = house.post(f"{webhook}/disable").get_json()
    assert (disabled["enabled"], disabled["disabled_reason"]) == (False, "by_account")
    for path, body in (("test", {}), ("replay", {"json": {"event_id": "evt_" + "0" * 27}})):
        assert problem(house.post(f"{webhook}/{path}", **body))[:2] == (409, "webhook_disabled")
    assert house.post(f"{webhook}/enable").get_json()["enabled"]
    assert house.post(f"{webhook}/test").status_code == 202
    page = house.get(f"{webhook}/notices", limit=2).get_json()
    assert [row["code"] for row in page["data"]] == ["enabled", "disabled"]
    assert page["has_more"]
    rest = house.get(f"{webhook}/notices", after=page["last_id"]).get_json()
    assert [row["code"] for row in rest["data"]] == ["created"]


def test_there_is_a_most_number_of_webhooks(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MOST", 1)
    make(house)
    assert problem(house.post("/v1/webhooks", json={"url": URL})) == (422, "too_many_webhooks", "/url")


def test_what_is_answered_is_what_is_documented(house: House) -> None:
    schemas = house.client.get("/openapi.json").get_json()["components"]["schemas"]
    made = make(house)
    webhook = f"/v1/webhooks/{made['id']}"
    delivery = house.post(f"{webhook}/test").get_json()
    try_all(house, made["id"], 200)
    attempt = house.get(f"{webhook}/deliveries/{delivery['id']}/attempts").get_json()["data"][0]
    notice = house.get(f"{webhook}/notices").get_json()["data"][0]
    replayed = house.post(f"{webhook}/replay", json={"event_id": delivery["event_id"]}).get_json()
    answers = {"WebhookMade": made, "Delivery": delivery, "Attempt": attempt, "Notice": notice, "Replayed": replayed}
    for name, answer in answers.items():
        assert set(schemas[name]["properties"]) == set(answer), name
