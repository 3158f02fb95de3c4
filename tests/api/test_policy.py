"""The policy pages."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from shield import audit, policies
from shield.models import PolicyVersion
from shield.policy import Origin, Rule, Terms
from tests.api.conftest import POLICY, House, face, form_token

DRAFT = {
    "thresholds": "own",
    "suspect": "40",
    "fake": "70.5",
    "smallest_face": "24",
    "review_share": "2.5",
    "note": "x",
}


@pytest.fixture
def admin(house: House) -> FlaskClient:
    client = house.app.test_client()
    house.sign_in(client)
    return client


def send(client: FlaskClient, path: str, **fields: Any) -> Any:
    token = form_token(client.get("/policy"))
    return client.post(path, data={"form_token": token, **fields}, follow_redirects=True)


def scan(house: House, *scores: float) -> str:
    """A job of one image for each score."""
    job_id = house.submit(len(scores))
    for held in iter(lambda: house.lease() if house.items(job_id)[-1].state == "pending" else None, None):
        house.record(held, [house.scanned(i.id, face(scores[int(i.id[-7:])])) for i in held.items])
    return job_id


def saved(house: House) -> PolicyVersion | None:
    with house.database.read() as session:
        return policies.draft(session, house.account_id)


def draft_id(page: str) -> str:
    found = re.search(r'name="draft" value="(\w+)"', page)
    assert found
    return found[1]


def test_a_draft_is_looked_at_published_and_rolled_back(house: House, admin: FlaskClient) -> None:
    job_id = scan(house, 0.45, 0.75, 0.1)
    preview = send(admin, "/policy/draft", **DRAFT).text
    assert "2 photos would get another verdict" in preview
    assert "Clear below 40 %" in preview
    assert "2.5 % of all photos go to review at random" in preview
    assert f"/items/itm_{job_id[4:]}_0000001/view" in preview
    assert send(admin, "/policy/publish", draft=draft_id(preview)).status_code == 200
    with house.database.read() as session:
        policy = policies.in_force(session, house.account_id, POLICY)
        assert policy == Terms(fake=0.705, suspect=0.4, review_share=0.025).policy("account/1", POLICY)
        assert audit.newest(session, house.account_id, 1)[0].actor == "link"
    page = admin.get("/policy").text
    assert 'value="70.5"' in page
    assert send(admin, "/policy/rollback", number="0").status_code == 200
    page = admin.get("/policy").text
    assert "Back to the default" in page
    assert page.count("Roll back to this") == 2
    assert [item["verdict"] for item in house.get(f"/v1/jobs/{job_id}/items").get_json()["data"]] == [
        "clear", "suspect", "clear",
    ]  # fmt: skip


def test_rules_are_kept_as_they_are_typed_and_an_empty_one_is_dropped(house: House, admin: FlaskClient) -> None:
    rules = {"rule-0-below": "", "rule-3-below": "48", "rule-3-suspect": "60", "rule-3-fake": "90"}
    send(admin, "/policy/draft", **DRAFT, **rules, **{"rule-3-origin": ["url", "s3", "moon"]})
    row = saved(house)
    assert row is not None
    assert policies.terms_of(row).rules == (Rule(0.9, 0.6, (Origin.URL, Origin.S3), 48.0),)
    page = admin.get("/policy").text
    assert 'name="rule-0-below" type="number" min="0" step="any" value="48"' in page
    assert "Faces below 48 px, from a web address or from S3" in admin.get("/policy/preview").text


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"suspect": "80"}, "not more than"),
        ({"suspect": "0"}, "more than 0 %"),
        ({"fake": "101"}, "at most 100 %"),
        ({"fake": ""}, "must be a number"),
        ({"fake": "nan"}, "must be a number"),
        ({"smallest_face": "inf"}, "must be a number"),
        ({"smallest_face": "-1"}, "not below 0"),
        ({"review_share": "200"}, "at most 100 %"),
        ({"note": "y" * 501}, "shorten it"),
        ({"rule-0-suspect": "50", "rule-0-fake": "60"}, "Rule 1: a rule says for which sources"),
        ({"rule-1-below": "50", "rule-1-suspect": "70", "rule-1-fake": "60"}, "Rule 1: "),
        ({"rule-0-origin": "s3"}, "Rule 1: “Suspect from” must be a number"),
    ],
)
def test_a_draft_that_makes_no_sense_says_why_and_is_shown_again(
    house: House, admin: FlaskClient, wrong: dict[str, str], words: str
) -> None:
    answer = send(admin, "/policy/draft", **{**DRAFT, **wrong})
    assert answer.status_code == 422
    assert words in answer.text
    for typed in {**DRAFT, **wrong}.values():
        assert f'value="{typed}"' in answer.text
    assert saved(house) is None


def test_what_was_changed_since_it_was_looked_at_is_not_published(house: House, admin: FlaskClient) -> None:
    seen = draft_id(send(admin, "/policy/draft", **DRAFT).text)
    send(admin, "/policy/draft", **{**DRAFT, "fake": "99"})
    for stale in (seen, "", "pol_x\0"):
        answer = send(admin, "/policy/publish", draft=stale)
        assert (answer.status_code, "Look at the draft again" in answer.text) == (409, True)
        assert "Fake from 99 %" in answer.text  # the draft as it is now, to be looked at and published
        assert draft_id(answer.text) not in ("", seen)
    assert send(admin, "/policy/discard").status_code == 200
    assert saved(house) is None
    assert "There is no draft" in admin.get("/policy/preview").text


def test_a_size_is_written_out_and_larger_than_any_face_is_refused(house: House, admin: FlaskClient) -> None:
    rule = {"rule-0-suspect": "60", "rule-0-fake": "90"}
    sizes = {"smallest_face": "24.5", "rule-0-below": "99999.25"}
    page = send(admin, "/policy/draft", **{**DRAFT, **rule, **sizes}).text
    assert "Faces below 99999.25 px: suspect from 60 %" in page
    assert "Faces below 24.5 px are not judged." in page
    assert 'value="99999.25"' in admin.get("/policy").text
    for wrong in ({"smallest_face": "100001"}, {**rule, "rule-0-below": "1e9"}):
        answer = send(admin, "/policy/draft", **{**DRAFT, **wrong})
        assert (answer.status_code, "is at most 100,000 px." in answer.text) == (422, True)


def test_another_accounts_draft_cannot_be_published(house: House, admin: FlaskClient) -> None:
    other, _ = house.new_account("other")
    with house.database.write() as session:
        draft = policies.save_draft(session, other, Terms(), "secret plans", "kim").id
    assert send(admin, "/policy/publish", draft=draft).status_code == 409
    assert "secret plans" not in admin.get("/policy").text


@pytest.mark.parametrize("number", ["", "-1", "x", "1", "99999999999"])
def test_rolling_back_to_what_there_is_not_changes_nothing(house: House, admin: FlaskClient, number: str) -> None:
    assert send(admin, "/policy/rollback", number=number).status_code in (404, 422)
    with house.database.read() as session:
        assert policies.newest(session, house.account_id) is None


def test_a_hostile_note_is_text(house: House, admin: FlaskClient) -> None:
    preview = send(admin, "/policy/draft", **{**DRAFT, "note": "<script>alert(1)</script>"}).text
    assert "<script>alert" not in preview
    page = send(admin, "/policy/publish", draft=draft_id(preview)).text
    assert "&lt;script&gt;alert" in page
    assert "<script>alert" not in page


def test_a_photo_shows_its_faces_as_the_policy_that_judged_it_saw_them(house: House, admin: FlaskClient) -> None:
    terms = Terms(fake=0.95, suspect=0.9, rules=(Rule(0.3, 0.2, below=45.0),))
    with house.database.write() as session:
        row = policies.save_draft(session, house.account_id, terms, "", "robin")
        policies.publish(session, house.account_id, row.id, "robin")
    for version, dots in (("account/1", ["clear", "fake"]), (POLICY.version, ["fake", "clear"])):
        job_id = house.submit(1)
        held = house.lease()
        outcome = house.scanned(held.items[0].id, face(0.85, side=50), face(0.35))
        house.record(
            held, [type(outcome)(**{**{n: getattr(outcome, n) for n in outcome.__slots__}, "policy_version": version})]
        )
        page = admin.get(f"/items/{house.items(job_id)[0].id}").text
        assert re.findall(r'class="dot (\w+)"', page) == dots, version


def test_a_threshold_is_found_and_put_into_the_draft(house: House, admin: FlaskClient) -> None:
    job_id = scan(house, *(n / 100 for n in range(60)))
    page = admin.get("/policy/fit", query_string={"target": "5", "job": [job_id]}).text
    assert "Suspect from" in page
    assert "0 of 60 photos" in page
    found = re.search(r'href="(/policy\?verdict=suspect&amp;threshold=([\d.]+)#draft)"', page)
    assert found
    assert float(found[2]) == 0.5901
    draft = admin.get(found[1].replace("&amp;", "&")).text
    assert 'name="suspect" type="number" min="0" max="100" step="any" value="59.01"' in draft
    assert 'name="fake" type="number" min="0" max="100" step="any" value="80"' in draft


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"target": "1", "job": "JOB"}, "3 photos allow a target of no less than 63 %. For 1 % it takes 299."),
        ({"target": "1", "reviewed": "true"}, "No clean photos yet"),
        ({"target": "1", "other": "job_" + "0" * 27}, "No clean photos yet"),
        ({"target": "70", "job": "JOB"}, "Out of reach"),
        ({"target": "70", "verdict": "fake", "job": "JOB"}, "Out of reach"),
        ({"target": "1", "other": ""}, "Find the threshold"),
        ({}, "Find the threshold"),
    ],
)
def test_a_sample_that_gives_no_threshold_says_why(
    house: House, admin: FlaskClient, query: dict[str, str], words: str
) -> None:
    job_id = scan(house, 1.0, 1.0, 1.0)
    page = admin.get("/policy/fit", query_string={k: job_id if v == "JOB" else v for k, v in query.items()})
    assert page.status_code == 200
    assert words in " ".join(page.text.split())
    assert "Put it into the draft" not in page.text


@pytest.mark.parametrize(
    "query", ["target=0", "target=1e-320", "target=nan", "target=x", "job=x", "verdict=clear", "other=%00"]
)
def test_a_search_that_makes_no_sense_is_refused_on_the_page(admin: FlaskClient, query: str) -> None:
    answer = admin.get(f"/policy/fit?{query}")
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
