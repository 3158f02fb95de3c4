"""The console when something has changed meanwhile: a clear message, and no lost note."""

import re
from collections.abc import Callable
from html import unescape

import pytest

from shield import audit, cases, decisions, retention
from shield.states import Answer
from tests.api.conftest import House, face
from tests.api.desk import NOTE, Desk, note_in, open_four, row


@pytest.fixture
def house(build: Callable[..., House]) -> House:
    house = build(chunk_items=4)
    open_four(house)
    return house


@pytest.fixture
def robin(house: House) -> Desk:
    return Desk(house, "robin")


@pytest.fixture
def kim(house: House) -> Desk:
    return Desk(house, "kim")


def test_whoever_comes_second_is_told_and_keeps_the_note(robin: Desk, kim: Desk) -> None:
    case_id = robin.next()
    assert "Robin has this case." in kim.get(f"/review/cases/{case_id}")
    answer = kim.decide(case_id, Answer.OVERTURN, note=NOTE)
    assert answer.status_code == 409
    assert "Somebody else has this case" in answer.text
    assert note_in(answer.text) == NOTE
    assert kim.post(f"/review/cases/{case_id}/claim").status_code == 409
    token = robin.token(case_id)
    robin.decide(case_id, Answer.UPHOLD, token=token)
    stale = robin.decide(case_id, Answer.OVERTURN, token=token, note=NOTE)  # the same tab, a step back
    assert stale.status_code == 409
    assert "This case was upheld already" in stale.text
    assert note_in(stale.text) == NOTE
    assert row(robin.house, case_id).answer == Answer.UPHOLD


def test_a_claim_that_was_lost_says_so_and_the_form_can_be_sent_again(robin: Desk) -> None:
    case_id = robin.next()
    token = robin.token(case_id)
    assert robin.post(f"/review/cases/{case_id}/renew", token=token).status_code == 204
    assert robin.post(f"/review/cases/{case_id}/release", token=token).status_code == 303
    lost = robin.post(f"/review/cases/{case_id}/renew", token=token)
    assert lost.status_code == 409
    answer = robin.decide(case_id, Answer.UPHOLD, token=token, note=NOTE, reason="fraud")
    assert answer.status_code == 409
    assert "Your claim on this case ran out" in answer.text
    assert note_in(answer.text) == NOTE
    assert re.search(r'value="fraud"[^>]* checked', answer.text)
    assert 'name="token"' not in answer.text  # sent again as it is, the form claims the case anew
    assert robin.decide(case_id, Answer.UPHOLD, note=NOTE).status_code == 303


def test_a_case_that_was_deleted_gives_the_note_back(robin: Desk) -> None:
    case_id = robin.next()
    token = robin.token(case_id)
    with robin.house.database.write() as session:
        job_id = cases.get(session, robin.house.account_id, case_id).job_id
        retention.delete_job(session, robin.house.account_id, job_id, audit.OPERATOR)
    for action in ("decide", "claim", "undo"):
        answer = robin.post(f"/review/cases/{case_id}/{action}", token=token, answer="uphold", note=NOTE)
        assert answer.status_code == 404
        assert note_in(answer.text) == NOTE
        assert 'href="/review">Back to the queue' in answer.text
    assert robin.client.get(f"/review/cases/{case_id}").status_code == 404


def test_a_note_is_as_long_as_its_field_lets_it_be_lines_and_all(robin: Desk) -> None:
    case_id = robin.next()
    sent = ("x" * 99 + "\r\n") * 40  # as browsers send the 4,000 characters that they counted
    assert robin.decide(case_id, Answer.UPHOLD, token=robin.token(case_id), note=sent).status_code == 303
    with robin.house.database.read() as session:
        [made] = decisions.history(session, robin.house.account_id, case_id)
    assert made.note == sent.replace("\r\n", "\n")


@pytest.mark.parametrize(("form_token", "status"), [("stale", 403), (None, 401)])
def test_a_page_of_a_session_that_is_over_gives_the_note_back(robin: Desk, form_token: str | None, status: int) -> None:
    case_id = robin.next()
    if form_token is None:
        robin.client.delete_cookie("shield")
    answer = robin.client.post(
        f"/review/cases/{case_id}/decide", data={"form_token": form_token or "t", "answer": "uphold", "note": NOTE}
    )
    assert answer.status_code == status
    assert note_in(answer.text) == NOTE
    assert row(robin.house, case_id).answer is None


@pytest.mark.parametrize(
    "fields",
    [{"answer": "overturn", "reason": "fraud"}, {"answer": "undo"}, {"answer": "uphold", "reason": "dislike"}],
)
def test_an_answer_that_makes_no_sense_gives_the_note_back(robin: Desk, fields: dict[str, str]) -> None:
    case_id = robin.next()
    answer = robin.post(f"/review/cases/{case_id}/decide", note=NOTE, token=robin.token(case_id), **fields)
    assert answer.status_code == 422
    assert note_in(answer.text) == NOTE
    assert row(robin.house, case_id).answer is None


def test_a_flood_of_decisions_is_held_back_with_the_choice_and_the_note(build: Callable[..., House]) -> None:
    house = build(chunk_items=4, decisions_per_minute=3)
    house.submit(4)
    house.scan_all(face(0.9))
    robin = Desk(house, "robin")
    ids = re.findall(r'name="case_id" value="(cas_\w+)"', robin.get())
    answer = robin.post("/review/bulk", answer="overturn", note=NOTE, case_id=ids)
    assert answer.status_code == 429
    assert "more than 3" in answer.text
    assert answer.text.count(" checked>") >= 4
    assert unescape(re.search(r'name="note"[^>]* value="([^"]*)"', answer.text)[1]) == NOTE  # type: ignore[index]
    assert robin.post("/review/bulk", answer="overturn").status_code == 422  # none chosen
    assert robin.post("/review/bulk", answer="overturn", case_id=["x"]).status_code == 404
    assert robin.post("/review/bulk", answer="overturn", case_id=ids[:3]).status_code == 303
