"""Webhooks in the browser, without a browser: what the pages say and refuse."""

import re

import pytest
from flask.testing import FlaskClient

from shield import deliveries, endpoints
from shield.deliveries import Schedule, Try
from shield.models import Endpoint
from tests.api.conftest import House, face, form_token

XSS = "<img src=x onerror=alert(1)>{{7*7}}"


@pytest.fixture
def admin(house: House) -> FlaskClient:
    house.sign_in(house.client)
    return house.client


def form(client: FlaskClient, **fields: object) -> dict[str, object]:
    return {"form_token": form_token(client.get("/webhooks")), **fields}


def make(client: FlaskClient, **fields: object) -> str:
    """The path of a new webhook's page."""
    given = {"url": "https://acme.example/hook", "events": ["job.ended", "item.flagged"]} | fields
    answer = client.post("/webhooks", data=form(client, **given))
    assert answer.status_code == 200, answer.text
    found = re.search(r'action="(/webhooks/whk_\w+)/change"', answer.text)
    assert found
    return found[1]


def row_of(house: House, path: str) -> Endpoint:
    with house.database.read() as session:
        return endpoints.get(session, house.account_id, path.rpartition("/")[2])


def attempt(house: House, path: str, status: int, answer: str = "") -> None:
    """Play the house: one try of all that is due to this webhook."""
    with house.database.write() as session:
        held = deliveries.lease(session, {path.rpartition("/")[2]: 10}, 60)
        assert held
        deliveries.record(session, [Try(each, 9, status, answer=answer) for each in held], Schedule([600.0], 5))


def secret_in(page: str) -> str:
    found = re.search(r'id="secret">(whsec_[^<]+)<', page)
    assert found
    return found[1]


def test_a_secret_is_shown_once_when_it_is_made_and_once_when_it_is_rotated(house: House, admin: FlaskClient) -> None:
    made = admin.post("/webhooks", data=form(admin, url="https://acme.example/hook", events="job.ended"))
    first = secret_in(made.text)
    [webhook] = house.get("/v1/webhooks").get_json()["data"]
    path = f"/webhooks/{webhook['id']}"
    assert first not in admin.get(path).text
    rotated = admin.post(f"{path}/rotate", data=form(admin)).text
    second = secret_in(rotated)
    assert second != first
    assert "goes on signing beside it until" in rotated
    assert second not in admin.get(path).text


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"url": "http://acme.example/hook"}, "must begin with https://"),
        ({"url": "https://192.0.2.1/"}, "192.0.2.1"),
        ({"url": ""}, "url:"),
        ({"events": []}, "events:"),
        ({"events": ["endpoint.test"]}, "nothing subscribes"),
        ({"events": ["job.began"]}, "events/0:"),
        ({"description": "x" * 201}, "description:"),
    ],
)
def test_what_is_wrong_is_said_beside_what_was_typed(
    house: House, admin: FlaskClient, wrong: dict[str, object], why: str
) -> None:
    path = make(admin, description="Acme")
    typed = {"url": "https://acme.example/typed", "events": ["item.failed"], "description": "typed"} | wrong
    for target, said in (("/webhooks", "No webhook was made."), (f"{path}/change", "Nothing was changed.")):
        answer = admin.post(target, data=form(admin, **typed))
        assert answer.status_code == 422
        assert said in answer.text
        assert why in answer.text
        for name in {"url", "description"} - set(wrong):
            assert f'value="{typed[name]}"' in answer.text
    row = row_of(house, path)
    assert (row.url, row.description) == ("https://acme.example/hook", "Acme")
    assert len(house.get("/v1/webhooks").get_json()["data"]) == 1


def test_what_a_webhook_is_sent_is_changed(house: House, admin: FlaskClient) -> None:
    path = make(admin)
    new = {"url": "https://acme.example/new", "events": ["item.failed"], "description": "New"}
    assert admin.post(f"{path}/change", data=form(admin, **new)).headers["Location"] == path
    row = row_of(house, path)
    assert (row.url, row.events, row.description) == ("https://acme.example/new", ["item.failed"], "New")


def test_deliveries_are_listed_narrowed_looked_into_and_sent_once_more(house: House, admin: FlaskClient) -> None:
    path = make(admin)
    house.submit(1)
    house.scan_all(face(0.9))
    page = admin.get(path).text
    assert page.count("Waiting</span>") == 2
    attempt(house, path, 500, f"{XSS} went wrong")
    page = admin.get(path).text
    assert page.count("Tried, will be tried again</span>") == 2
    assert "A photo is fake or suspect: 0.jpg" in page
    assert "None of these." in admin.get(f"{path}?state=delivered").text
    assert admin.get(f"{path}?state=lost").status_code == 422
    found = re.search(rf'href="({path}/deliveries/dlv_\w+)"', page)
    assert found
    one = admin.get(found[1]).text
    assert "went wrong" in one
    assert "<img src=x" not in one
    assert ">500</b>" in one
    assert "Try now" in one
    assert admin.post(f"{found[1]}/replay", data=form(admin)).headers["Location"] == f"{path}?replayed=1"
    attempt(house, path, 204)
    assert "Delivered" in admin.get(found[1]).text


def test_what_did_not_arrive_is_sent_once_more(house: House, admin: FlaskClient) -> None:
    path = make(admin, events=["job.ended"])
    for _ in range(2):
        house.submit(1)
        house.scan_all(face(0.1))
    attempt(house, path, 410)  # gone: it is disabled, and both are dropped
    assert "Disabled, because it answered 410 Gone." in admin.get(path).text
    assert admin.post(f"{path}/replay", data=form(admin, hours=1)).status_code == 409
    admin.post(f"{path}/enable", data=form(admin))
    answer = admin.post(f"{path}/replay", data=form(admin, hours=1))
    assert answer.headers["Location"] == f"{path}?replayed=2"
    assert "2 events are sent once more." in admin.get(answer.headers["Location"]).text
    again = admin.post(f"{path}/replay", data=form(admin, hours=1))
    assert "nothing is sent once more" in admin.get(again.headers["Location"]).text
    assert admin.post(f"{path}/replay", data=form(admin, hours=10**9)).status_code == 422


def test_a_webhook_is_switched_off_tested_and_deleted(house: House, admin: FlaskClient) -> None:
    path = make(admin)
    admin.post(f"{path}/disable", data=form(admin))
    assert admin.post(f"{path}/test", data=form(admin)).status_code == 409
    admin.post(f"{path}/enable", data=form(admin))
    tested = admin.post(f"{path}/test", data=form(admin)).headers["Location"]
    assert "endpoint.test" in admin.get(tested).text
    assert "A test" in admin.get(path).text
    assert admin.post(f"{path}/delete", data=form(admin)).headers["Location"] == "/webhooks"
    assert admin.get(path).status_code == 404
    assert path not in admin.get("/webhooks").text


def test_a_hostile_description_is_text(admin: FlaskClient) -> None:
    path = make(admin, description=XSS)
    for page in (admin.get("/webhooks").text, admin.get(path).text):
        assert "<img src=x" not in page
        assert "{{7*7}}" in page


def test_deliveries_are_paged(house: House, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.webhook_pages.PAGE", 2)
    path = make(admin)
    for _ in range(3):
        admin.post(f"{path}/test", data=form(admin))
    page = admin.get(path).text
    assert page.count('<li id="dlv_') == 2
    following = re.search(r'href="([^"]+)">Earlier', page)
    assert following
    assert admin.get(following[1].replace("&amp;", "&")).text.count('<li id="dlv_') == 1
