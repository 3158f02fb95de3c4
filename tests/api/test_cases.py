"""/v1/cases and /v1/decisions: what awaits a human, and what was decided, for programs."""

import json

import pytest
from werkzeug.test import TestResponse

from shield import accounts, claims, decisions
from shield.claims import Reviewer
from shield.decisions import Ruling
from shield.states import Answer, Role, Scope
from tests.api.conftest import House, face


def open_cases(house: House, *scores: float) -> list[str]:
    """The ids of the cases of a new job of images with these scores."""
    job_id = house.submit(len(scores))
    left = list(scores)
    while left:
        held = house.lease()
        house.record(held, [house.scanned(item.id, face(left.pop(0))) for item in held.items])
    rows = house.get("/v1/cases", job_id=job_id).get_json()["data"]
    return [row["id"] for row in sorted(rows, key=lambda row: row["item_id"])]


def decide(house: House, case_id: str, **body: str) -> TestResponse:
    return house.post(f"/v1/cases/{case_id}/decision", json=body)


def exported(house: House, **query: str) -> list[dict[str, object]]:
    answer = house.get("/v1/decisions", **query)
    assert (answer.status_code, answer.mimetype) == (200, "application/jsonl")
    return [json.loads(line) for line in answer.text.splitlines()]


def test_the_queue_is_read_page_by_page_the_most_urgent_first(house: House) -> None:
    low, high = open_cases(house, 0.9, 0.95)
    page = house.get("/v1/cases", limit=1).get_json()
    assert ([row["id"] for row in page["data"]], page["has_more"]) == ([high], True)
    rest = house.get("/v1/cases", limit=1, after=page["last_id"]).get_json()
    assert ([row["id"] for row in rest["data"]], rest["has_more"]) == ([low], False)
    row = rest["data"][0]
    assert row | {"state": "open", "level": "moderator", "reason": "flagged", "verdict": "fake", "score": 0.9} == row
    assert (row["custom_id"], row["claimed_by"], row["answer"]) == ("0.jpg", None, None)


def test_the_queue_is_narrowed(house: House) -> None:
    first, second = open_cases(house, 0.9, 0.95)
    assert [row["id"] for row in house.get("/v1/cases", custom_id="1.J").get_json()["data"]] == [second]
    assert house.get("/v1/cases", verdict="suspect").get_json()["data"] == []
    assert house.get("/v1/cases", sort="age").get_json()["data"][0]["id"] in (first, second)
    answer = house.get("/v1/cases", after="cas_" + "0" * 27)
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "/after")


def test_a_case_is_answered_in_one_step_and_told_with_its_item(house: House) -> None:
    [case_id] = open_cases(house, 0.9)
    answer = decide(house, case_id, answer="overturn", reason="retouched", note="a filter")
    assert answer.status_code == 200, answer.text
    made = answer.get_json()
    assert made | {"answer": "overturn", "reason": "retouched", "note": "a filter", "case_id": case_id} == made
    case = house.get(f"/v1/cases/{case_id}").get_json()
    assert (case["state"], case["answer"], case["decided_by"]) == ("decided", "overturn", made["actor"])
    assert case["decisions"] == [made]
    assert case["item"] == house.get(f"/v1/items/{case['item_id']}").get_json()
    assert house.get("/v1/cases").get_json()["data"] == []
    assert [row["id"] for row in house.get("/v1/cases", state="decided").get_json()["data"]] == [case_id]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"answer": "undo"}, 422, "invalid_request"),
        ({"answer": "uphold", "reason": "retouched"}, 422, "invalid_submission"),
        ({"answer": "uphold", "note": "x" * 4001}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
    ],
)
def test_an_answer_that_is_none_is_refused(house: House, body: dict[str, str], status: int, code: str) -> None:
    [case_id] = open_cases(house, 0.9)
    answer = decide(house, case_id, **body)
    assert (answer.status_code, answer.get_json()["code"]) == (status, code)


def test_what_a_moderator_has_is_not_decided_beside_them_and_what_is_decided_not_twice(house: House) -> None:
    [case_id] = open_cases(house, 0.9)
    anna = Reviewer("mod_anna", Role.MODERATOR)
    with house.database.write() as session:
        token = claims.claim(session, house.account_id, case_id, anna, 60).token
    answer = decide(house, case_id, answer="uphold")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "case_taken")
    with house.database.write() as session:
        decisions.decide(session, house.account_id, case_id, token, Ruling(Answer.OVERTURN), anna)
    answer = decide(house, case_id, answer="uphold")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "already_decided")


def test_a_key_decides_what_was_escalated(house: House) -> None:
    [case_id] = open_cases(house, 0.9)
    assert decide(house, case_id, answer="escalate").status_code == 200
    assert house.get(f"/v1/cases/{case_id}").get_json()["level"] == "lead"
    assert decide(house, case_id, answer="uphold").status_code == 200


def test_what_stands_is_exported_as_training_data_and_what_was_undone_is_not(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "PAGE", 2)
    first, second, third, skipped, undone = open_cases(house, 0.9, 0.95, 0.97, 0.99, 0.92)
    for case_id, answer in ((second, "uphold"), (first, "overturn"), (third, "uphold"), (skipped, "skip")):
        assert decide(house, case_id, answer=answer).status_code == 200
    assert decide(house, undone, answer="uphold").status_code == 200
    with house.database.write() as session:
        decisions.undo(session, house.account_id, undone, Reviewer("mod_l", Role.LEAD), 60)
        decisions.undo(session, house.account_id, third, Reviewer("mod_l", Role.LEAD), 60)
        token = claims.claim(session, house.account_id, third, Reviewer("mod_l", Role.LEAD), 60).token
        decisions.decide(
            session, house.account_id, third, token, Ruling(Answer.OVERTURN, note="after all"), Reviewer("m", Role.LEAD)
        )
    lines = exported(house)
    assert [(line["case_id"], line["decision"]) for line in lines] == [
        (second, "upheld"),
        (first, "overturned"),
        (third, "overturned"),
    ]
    assert lines[2]["note"] == "after all"
    item = lines[0]["item"]
    assert isinstance(item, dict)
    assert item == house.get(f"/v1/items/{item['id']}").get_json()
    assert lines[0]["custom_id"] == "1.jpg"
    moment = str(lines[1]["decided_at"])
    assert [line["case_id"] for line in exported(house, since=moment)] == [first, third]
    assert [line["case_id"] for line in exported(house, until=moment)] == [second]


def test_the_decisions_of_others_are_not_exported(house: House) -> None:
    [case_id] = open_cases(house, 0.9)
    decide(house, case_id, answer="uphold")
    other_id, _ = house.new_account("other")
    with house.database.write() as session:
        key = accounts.create_key(session, other_id, scopes=[Scope.REVIEW])
    answer = house.client.get("/v1/decisions", headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.text) == (200, "")
