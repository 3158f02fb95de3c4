"""Why a face scores as it does, in the browser: asked for, waited for, shown; and nothing for anybody else."""

import pytest
from flask.testing import FlaskClient

from shield import explanations
from shield.models import Explanation
from shield.queue import MemoryQueue, Message
from tests.api.conftest import House, face, form_token, picture, wait_until


@pytest.fixture
def person(house: House) -> FlaskClient:
    """A browser with a session."""
    house.sign_in(house.client)
    return house.client


@pytest.fixture
def item_id(house: House) -> str:
    """A photo of two faces."""
    job_id = house.submit(1)
    house.scan_all(face(0.9), face(0.4, left=90))
    return house.items(job_id)[0].id


def ask(person: FlaskClient, item_id: str, **fields: str) -> str:
    """Ask from the front page; where that leads."""
    form = form_token(person.get("/"))
    answer = person.post(f"/items/{item_id}/explain", data={"form_token": form, **fields})
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"]


def test_who_asks_is_shown_how_it_stands_until_it_is_ready(house: House, person: FlaskClient, item_id: str) -> None:
    path = f"/items/{item_id}/explanation"
    assert person.get(path).get_json() == {"state": "none", "faces": []}
    for _ in range(2):
        assert ask(person, item_id) == f"/items/{item_id}"
        pending = person.get(path).get_json()
        assert (pending["state"], pending["faces"], pending["same_weights"]) == ("pending", [], None)
    house.explain(item_id)
    ready = person.get(path)
    assert ready.headers["Cache-Control"] == "no-store"
    shown = ready.get_json()
    assert (shown["state"], shown["picture"], shown["same_weights"], shown["reason"]) == (
        "ready",
        "original",
        True,
        None,
    )
    assert [one["ordinal"] for one in shown["faces"]] == [0, 1]
    assert shown["faces"][1]["square"] == {"left": 90, "top": 16, "side": 40}
    assert shown["faces"][0]["stability"] == {"jpeg_90": 0.9, "half_size": 0.4}


def test_crop_and_heat_map_are_pictures_and_nothing_else(house: House, person: FlaskClient, item_id: str) -> None:
    house.explain(item_id)
    shown = person.get(f"/items/{item_id}/explanation").get_json()["faces"][1]
    for name, mimetype, content in (("crop", "image/jpeg", "red"), ("heatmap", "image/png", "blue")):
        answer = person.get(shown[name])
        assert (answer.mimetype, answer.data) == (mimetype, picture(content))
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("ordinal", ["2", "9999999", "-1", "x", "%00", "1e3", "²"])
def test_a_face_that_is_not_there_is_not_found(house: House, person: FlaskClient, item_id: str, ordinal: str) -> None:
    house.explain(item_id)
    for name in ("crop", "heatmap"):
        assert person.get(f"/items/{item_id}/faces/{ordinal}/{name}").status_code == 404


def test_before_it_is_explained_there_is_no_picture(person: FlaskClient, item_id: str) -> None:
    ask(person, item_id)
    answer = person.get(f"/items/{item_id}/faces/0/crop")
    assert (answer.status_code, "ask for it first" in answer.text) == (404, True)


def test_a_worker_is_told_at_once_and_only_while_it_is_wanted(house: House, person: FlaskClient, item_id: str) -> None:
    assert isinstance(house.queue, MemoryQueue)
    told = Message(explanations.EXPLAIN, "interactive", item_id)
    ask(person, item_id)
    wait_until(lambda: told in house.queue.messages)  # type: ignore[attr-defined]
    house.explain(item_id)
    house.queue.messages.clear()
    ask(person, item_id)
    wait_until(house.stores.poker._asked.empty)
    assert told not in house.queue.messages


def test_a_form_leads_back_to_its_page_and_never_to_another_site(person: FlaskClient, item_id: str) -> None:
    back = "/review/cases/cas_0123"
    assert ask(person, item_id, back=back) == back
    for elsewhere in ("https://evil.example/", "//evil.example/", "/\\evil.example", "/review//x\r\nSet-Cookie: a=b"):
        assert ask(person, item_id, back=elsewhere) == f"/items/{item_id}"


def test_what_cannot_be_explained_says_why(house: House, person: FlaskClient, item_id: str) -> None:
    job_id = house.submit(1)
    house.scan_all()
    bare = house.items(job_id)[0].id
    form = form_token(person.get("/"))
    answer = person.post(f"/items/{bare}/explain", data={"form_token": form})
    assert (answer.status_code, "nothing to explain" in answer.text) == (409, True)

    ask(person, item_id)
    with house.database.write() as session:
        held = explanations.take(session, 60)
        assert held is not None
        explanations.fail(session, held, "image_gone")
    shown = person.get(f"/items/{item_id}/explanation").get_json()
    assert (shown["state"], shown["reason"], shown["faces"]) == ("failed", "image_gone", [])


def test_scores_by_other_weights_are_told_apart(house: House, person: FlaskClient, item_id: str) -> None:
    house.explain(item_id)
    with house.database.write() as session:
        session.get_one(Explanation, item_id).weights_sha256 = "f" * 64
    assert person.get(f"/items/{item_id}/explanation").get_json()["same_weights"] is False
