"""The console without a browser: its queue, its cases, and what its forms do."""

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape

import pytest

from api.review_words import DONE, REASON_KEYS, REASON_WORDS, WAYS
from pipeline.explain import WAYS as MEASURED
from shield import cases, decisions
from shield.states import Answer, DecisionReason, Role
from tests.api.conftest import House, face, form_token, picture
from tests.api.desk import NOTE, Desk, case_of, note_in, open_four, row, shown


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


def test_the_queue_lists_the_most_urgent_first_and_is_narrowed(robin: Desk) -> None:
    page = robin.get()
    assert shown(page) == ["2.jpg", "3.jpg", "0.jpg", "1.jpg"]
    assert "4 to review" in page
    assert shown(robin.get("/review?verdict=suspect")) == ["1.jpg"]
    assert shown(robin.get("/review?verdict=&reason=&job_id=&name=3&sort=score")) == ["3.jpg"]
    assert sorted(shown(robin.get("/review?sort=age"))) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert "Nothing waits that fits" in robin.get("/review?reason=sample")
    assert robin.client.get("/review?verdict=real").status_code == 422
    assert robin.client.get("/review?after=cas_x").status_code == 404


def test_no_more_cases_are_counted_than_so_many(robin: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COUNTED", "SEARCHED"):
        monkeypatch.setattr(cases, name, 3)
    assert "3+ to review" in robin.get()
    assert "among the first 3 cases" in robin.get("/review?name=x")
    assert "3+ wait" in robin.get(f"/review/cases/{robin.next()}")


def test_the_queue_is_paged(robin: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.review.PAGE", 3)
    page = robin.get("/review?sort=score")
    following = re.search(r'href="([^"]+)" rel="next"', page)
    assert following
    assert len(shown(page)) == 3
    assert shown(robin.get(unescape(following[1]))) == ["1.jpg"]


def test_a_decision_leads_to_the_next_case_of_the_same_view_and_can_be_undone_there(robin: Desk) -> None:
    first = robin.next("?sort=score&verdict=fake")
    answer = robin.post(
        f"/review/cases/{first}/decide?sort=score&verdict=fake",
        answer="uphold",
        reason="fraud",
        note=NOTE,
        token=robin.token(first),
    )
    second = case_of(answer)
    assert row(robin.house, second).item.custom_id == "3.jpg"
    assert "sort=score&verdict=fake" in answer.headers["Location"]
    page = robin.get(answer.headers["Location"])
    assert "Upheld" in page
    assert f"/review/cases/{first}/undo?sort=score&amp;verdict=fake" in page
    undone = robin.post(f"/review/cases/{first}/undo")
    assert case_of(undone) == first
    page = robin.get(f"/review/cases/{first}")
    assert "Taken back" in page
    assert note_in(page) == NOTE
    assert re.search(r'value="fraud"[^>]* checked', page)
    assert row(robin.house, first).claimed_by == robin.id


def test_what_somebody_else_said_is_not_put_into_the_mouth_of_who_takes_it_back(robin: Desk) -> None:
    case_id = robin.next()
    robin.decide(case_id, Answer.UPHOLD, reason="fraud", note=NOTE)
    lead = Desk(robin.house, "lee", Role.LEAD)
    assert case_of(lead.post(f"/review/cases/{case_id}/undo")) == case_id
    page = lead.get(f"/review/cases/{case_id}")
    assert note_in(page) == ""
    assert not re.search(r'name="reason"[^>]* checked', page)


def test_the_last_decision_leads_back_to_an_empty_queue(robin: Desk) -> None:
    answer = robin.post("/review/next")
    for _ in range(4):
        case_id = case_of(answer)
        answer = robin.decide(case_id, Answer.OVERTURN, token=robin.token(case_id))
    assert answer.headers["Location"] == f"/review?done={case_id}&end=1"
    page = robin.get(answer.headers["Location"])
    assert "All reviewed" in page
    assert f"/review/cases/{case_id}/undo" in page
    assert shown(robin.get("/review/decided")) == ["1.jpg", "0.jpg", "3.jpg", "2.jpg"]
    assert "by you" in robin.get("/review/decided")


def test_a_case_that_nobody_has_is_claimed_by_its_decision(robin: Desk) -> None:
    with robin.house.database.read() as session:
        [case, *_] = cases.queue(session, robin.house.account_id, Role.MODERATOR, 1)
    assert "Nobody has claimed this case." in robin.get(f"/review/cases/{case.id}")
    assert robin.decide(case.id, Answer.UPHOLD).status_code == 303
    assert row(robin.house, case.id).answer == Answer.UPHOLD


def test_what_was_escalated_is_a_leads(robin: Desk, kim: Desk) -> None:
    case_id = robin.next()
    robin.decide(case_id, Answer.ESCALATE, token=robin.token(case_id), reason="unsure")
    page = kim.get(f"/review/cases/{case_id}")
    assert "This case was escalated." in page
    refused = kim.decide(case_id, Answer.UPHOLD, note=NOTE)
    assert (refused.status_code, note_in(refused.text)) == (403, NOTE)
    lead = Desk(robin.house, "lee", Role.LEAD)
    assert lead.next() == case_id  # and comes first
    page = lead.get(f"/review/cases/{case_id}")
    assert "by robin" in page
    lead.decide(case_id, Answer.OVERTURN, token=lead.token(case_id))
    assert kim.post(f"/review/cases/{case_id}/undo").status_code == 403
    assert row(robin.house, case_id).answer == Answer.OVERTURN


def test_skipping_leads_on_and_not_back(robin: Desk) -> None:
    seen = [robin.next()]
    while len(seen) < 4:
        seen.append(case_of(robin.decide(seen[-1], Answer.SKIP, token=robin.token(seen[-1]))))
    assert len(set(seen)) == 4
    assert robin.decide(seen[-1], Answer.SKIP).headers["Location"].startswith("/review?")


def test_who_starts_where_nothing_is_left_for_them_is_told(robin: Desk, kim: Desk) -> None:
    seen = [robin.next()]
    while len(seen) < 4:
        seen.append(case_of(robin.decide(seen[-1], Answer.SKIP)))
    robin.decide(seen[-1], Answer.SKIP)
    told = "Nothing here is left for you"
    assert told not in robin.get()
    there = robin.post("/review/next?sort=age").headers["Location"]
    assert told in robin.get(there)
    kim.post("/review/bulk", answer="uphold", case_id=seen)
    assert told not in robin.get(there)
    assert "All reviewed" in robin.get("/review")


def test_many_cases_are_decided_together_and_what_others_have_is_passed_over(robin: Desk, kim: Desk) -> None:
    held = kim.next()
    ids = re.findall(r'name="case_id" value="(cas_\w+)"', robin.get())
    assert held in ids
    answer = robin.post("/review/bulk?sort=age", answer="uphold", reason="fraud", note=NOTE, case_id=ids)
    assert answer.headers["Location"] == "/review?sort=age"
    page = robin.get(answer.headers["Location"])
    assert "Upheld 3 cases. 1 passed over: somebody else has or decided it." in page
    assert "Upheld 3" not in robin.get()
    with robin.house.database.read() as session:
        [made] = decisions.history(session, robin.house.account_id, next(i for i in ids if i != held))
    assert (made.answer, made.reason, made.note, made.actor) == ("uphold", "fraud", NOTE, robin.id)


def test_how_photos_are_shown_is_kept_for_each_person(robin: Desk, kim: Desk) -> None:
    case_id = robin.next()
    path = f"/review/cases/{case_id}"
    assert "data-blur data-greyscale" in robin.get(path)
    answer = robin.post("/review/preferences?sort=age", greyscale="on", case_id=case_id)
    assert answer.headers["Location"] == f"{path}?sort=age"
    assert "data-blur" not in robin.get(path)
    assert "data-greyscale" in robin.get()
    assert "data-blur data-greyscale" in kim.get()
    robin.house.sign_in(kim.client)  # by a link: nobody's
    token = form_token(kim.client.get("/review"))
    assert kim.client.post("/review/preferences", data={"form_token": token, "blur": "on"}).status_code == 303
    page = kim.get()
    assert "data-blur" in page
    assert "data-greyscale" not in page
    assert robin.post("/review/preferences", case_id="//evil.example").status_code == 404


def test_a_photo_that_cannot_be_shown_can_still_be_answered(build: Callable[..., House]) -> None:
    house = build(chunk_items=1)
    house.submit(1)
    held = house.lease()
    house.record(held, [house.scanned(held.items[0].id, face(0.9), view=False)])
    robin = Desk(house, "robin")
    assert "No picture" in robin.get()
    case_id = robin.next()
    page = robin.get(f"/review/cases/{case_id}")
    assert "There is no picture of this photo that can be shown" in page
    assert "/view" not in page
    assert robin.decide(case_id, Answer.UPHOLD).status_code == 303


def test_a_case_shows_why_once_it_is_explained(robin: Desk) -> None:
    case_id = robin.next()
    item_id = row(robin.house, case_id).item_id
    page = robin.get(f"/review/cases/{case_id}")
    assert f'action="/items/{item_id}/explain"' in page
    robin.house.explain(item_id)
    page = robin.get(f"/review/cases/{case_id}")
    for address in (f"/items/{item_id}/faces/0/crop", f"/items/{item_id}/faces/0/heatmap"):
        assert address in page
        assert robin.client.get(address).status_code == 200
    assert "Saved again: <span>40 % to 90 %</span>" in page
    assert "<dt>half size</dt><dd>40 %</dd>" in page


def test_of_many_faces_those_that_matter_come_first(build: Callable[..., House]) -> None:
    house = build()
    house.submit(1)
    held = house.lease()
    house.record(held, [house.scanned(held.items[0].id, face(0.1), face(0.9634), face(0.3))])
    desk = Desk(house, "robin")
    page = desk.get(f"/review/cases/{desk.next()}")
    assert re.findall(r"</span>Face (\d) <b", page) == ["2", "3", "1"]
    assert re.findall(r'text-anchor="middle">([^<]+)<', page) == ["10 %", "30 %", "96.3 %"]


def test_a_photo_without_a_name_of_letters_is_called_by_its_number(build: Callable[..., House]) -> None:
    house = build()
    house.post("/v1/jobs", json={"items": [{"url": "https://acme.example/1", "custom_id": "  \u3000"}]})
    house.scan_all(face(0.9))
    assert shown(Desk(house, "robin").get()) == ["https://acme.example/1"]


def test_what_was_decided_of_the_same_picture_is_shown(build: Callable[..., House]) -> None:
    house = build(chunk_items=2)
    house.submit(2)
    held = house.lease()
    alike = [house.scanned(item.id, face(0.9)) for item in held.items]
    house.record(held, [replace(scanned, image_hash="0123456789abcdef") for scanned in alike])
    robin = Desk(house, "robin")
    first = robin.next()
    second = case_of(robin.decide(first, Answer.OVERTURN, token=robin.token(first)))
    page = robin.get(f"/review/cases/{second}")
    assert "1 overturned" in page
    assert f'href="/review/cases/{first}"' in page


def test_every_answer_and_reason_has_words_and_every_reason_a_key() -> None:
    assert set(DONE) == set(Answer)
    assert set(REASON_WORDS) == set(DecisionReason)
    keys = [(reason, key) for _, choices in REASON_KEYS for reason, key in choices]
    assert {reason for reason, _ in keys} == set(DecisionReason)
    assert len({key for _, key in keys}) == len(keys)
    assert set(WAYS) == set(MEASURED)
    for answer, reasons in ((Answer.UPHOLD, REASON_KEYS[0][1]), (Answer.OVERTURN, REASON_KEYS[1][1])):
        assert {reason for reason, _ in reasons} == set(decisions.REASONS[answer]) - {DecisionReason.OTHER}


def test_a_page_of_the_console_holds_no_uploaded_byte(robin: Desk) -> None:
    case_id = robin.next()
    pictures = set(re.findall(r'(?:src|href)="(/items/[^"]+/view)"', robin.get(f"/review/cases/{case_id}")))
    assert pictures
    for path in pictures:
        assert robin.client.get(path).data == picture()
