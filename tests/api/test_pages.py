import csv
import hashlib
import io
import re
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from api.results import FORMULA
from shield import accounts, audit
from shield.audit import Action
from shield.policy import FaceFacts
from shield.states import Verdict
from tests.api.conftest import House, face, failed, form_token, picture


@pytest.fixture
def person(house: House) -> FlaskClient:
    """A browser with a session."""
    house.sign_in(house.client)
    return house.client


def drop(client: FlaskClient, *files: tuple[bytes, str]) -> str:
    """Drop photos on the front page; the path of the job's page."""
    form = form_token(client.get("/"))
    answer = client.post("/jobs", data={"form_token": form, "files": [(io.BytesIO(b), name) for b, name in files]})
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


def test_a_stranger_is_told_how_to_get_in(house: House) -> None:
    page = house.client.get("/")
    assert page.status_code == 200
    assert "python -m shield link" in page.text
    assert "<form" not in page.text


def test_a_link_is_spent_by_a_person_and_not_by_looking_at_it(house: House) -> None:
    with house.database.write() as session:
        token = accounts.create_link(session, house.account_id)
    for _ in range(3):
        page = house.client.get(f"/session/{token}")
        assert page.status_code == 200
    answer = house.client.post(f"/session/{token}", data={"form_token": form_token(page)})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "Recent jobs" in house.client.get("/").text
    again = house.app.test_client()
    form = form_token(again.get(f"/session/{token}"))
    spent = again.post(f"/session/{token}", data={"form_token": form})
    assert spent.status_code == 401
    assert "spent or expired" in spent.text


def test_leaving_ends_the_session(person: FlaskClient) -> None:
    form = form_token(person.get("/"))
    assert person.post("/logout", data={"form_token": form}).status_code == 303
    assert "python -m shield link" in person.get("/").text


def test_dropped_photos_become_a_job_with_a_page(house: House, person: FlaskClient) -> None:
    path = drop(person, (b"1", "first.jpg"), (b"2", "second.jpg"))
    page = person.get(path).text
    assert "first.jpg and 1 more" in page
    assert "0 of 2 done" in page
    assert 'http-equiv="refresh"' in page
    assert "first.jpg and 1 more" in person.get("/").text


def test_a_scanned_photo_is_shown_with_its_faces_boxed_and_scored(house: House, person: FlaskClient) -> None:
    path = drop(person, (b"1", "photo.jpg"))
    house.scan_all(face(0.934), face(0.2, left=90), face(0.99, left=5, side=10))
    page = person.get(path).text
    assert 'http-equiv="refresh"' not in page
    assert 'viewBox="0 0 160 120"' in page
    boxes = re.findall(r'class="line" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', page)
    assert [tuple(map(float, box)) for box in boxes] == [(20, 16, 40, 40), (90, 16, 40, 40), (5, 16, 10, 10)]
    assert re.findall(r'<g class="(\w+)" data-face', page) == [Verdict.FAKE, Verdict.CLEAR, Verdict.INCONCLUSIVE]
    for words in ("93 %", "20 %", "1 of 2 faces scores high enough to be fake.", "Some faces were too small"):
        assert words in page
    item_id = house.items(path.rpartition("/")[2])[0].id
    assert person.get(f"/items/{item_id}/view").data == picture()
    assert "40 × 40 px" in person.get(f"/items/{item_id}").text


def test_every_verdict_and_error_is_said_in_words(house: House, person: FlaskClient) -> None:
    path = drop(person, *((b"x%d" % n, f"{n}.jpg") for n in range(4)))
    held = house.lease()
    small = FaceFacts(1, 1, 8, 8, 0.9, 0.9, ())
    ids = [item.id for item in held.items]
    house.record(
        held, [house.scanned(ids[0]), house.scanned(ids[1], small), failed(ids[2]), failed(ids[3], "odd_code")]
    )
    page = person.get(path).text
    for words in ("No face was found.", "Every face is too small to be judged.", "This is not an image.", "Odd code."):
        assert words in page
    assert "not_an_image" not in page


def test_photos_are_narrowed_and_paged(build: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.pages.PAGE", 2)
    house = build(chunk_items=8)
    house.sign_in(house.client)
    path = drop(house.client, *((b"x%d" % n, f"photo-{n}.jpg") for n in range(5)))
    held = house.lease()
    outcomes = [house.scanned(item.id, face(0.9 if n % 2 else 0.1)) for n, item in enumerate(held.items)]
    house.record(held, outcomes)

    def shown(page: str) -> list[str]:
        return re.findall(r'<p class="title" title="([^"]+)"', page)

    first = house.client.get(path).text
    assert shown(first) == ["photo-0.jpg", "photo-1.jpg"]
    following = re.search(r'href="([^"]+)">Next photos', first)
    assert following
    assert shown(house.client.get(following[1].replace("&amp;", "&")).text) == ["photo-2.jpg", "photo-3.jpg"]
    assert shown(house.client.get(f"{path}?verdict=fake").text) == ["photo-1.jpg", "photo-3.jpg"]
    assert house.client.get(f"{path}?verdict=real").status_code == 422


def test_a_job_is_canceled_from_its_page(house: House, person: FlaskClient) -> None:
    path = drop(person, (b"1", "1.jpg"))
    page = person.get(path)
    answer = person.post(f"{path}/cancel", data={"form_token": form_token(page)})
    assert (answer.status_code, answer.headers["Location"]) == (303, path)
    assert "Canceled" in person.get(path).text


def test_results_are_downloaded_as_the_api_gives_them(house: House, person: FlaskClient) -> None:
    path = drop(person, (b"1", "1.jpg"))
    house.scan_all(face(0.9))
    answer = person.get(f"{path}/results.jsonl")
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert answer.data == house.get(f"/v1{path}/results").data


def test_a_table_is_downloaded_in_which_no_cell_is_a_formula(house: House, person: FlaskClient) -> None:
    names = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\uff1d1", 'täuschung, "x"\nline', " plain"]
    path = drop(person, *((b"%d" % n, f"{n}.jpg") for n in range(len(names))))
    with house.database.write() as session:
        for item in house.items(path.rpartition("/")[2]):
            session.merge(item).custom_id = names[item.ordinal]
    for _ in range(3):  # chunks of four
        held = house.lease()
        first, *others = (item.id for item in held.items)
        house.record(held, [failed(first), *(house.scanned(item_id, face(0.9)) for item_id in others)])
    answer = person.get(f"{path}/results.csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"].endswith('.csv"')
    rows = list(csv.DictReader(io.StringIO(answer.data.decode("utf-8-sig"), newline="")))
    assert [row["custom_id"] for row in rows] == [f"'{name}" for name in names[:7]] + names[7:]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(FORMULA)]
    scores = [(row["state"], row["score"], row["faces"], row["error_code"]) for row in rows[:2]]
    assert scores == [("failed", "", "0", "not_an_image"), ("done", "0.9", "1", "")]


def test_photos_that_a_script_has_sent_become_a_job_once(house: House, person: FlaskClient) -> None:
    script = {"X-Form-Token": form_token(person.get("/")), "Accept": "application/problem+json"}
    made = person.post("/uploads?count=2", headers=script).get_json()["uploads"]
    stranger = house.app.test_client()  # the signature is the key
    for upload in made:
        assert stranger.put(upload["path"], data=picture()).status_code == 204
    wanted = {"name": "", "items": [{"upload": upload["id"], "custom_id": f"{n}.jpg"} for n, upload in enumerate(made)]}
    paths = set()
    for _ in range(2):
        answer = person.post("/jobs", headers=script | {"Idempotency-Key": "k"}, json=wanted)
        assert answer.status_code == 303, answer.text
        paths.add(answer.headers["Location"])
    [path] = paths
    assert "0.jpg and 1 more" in person.get(path).text
    other_id, _ = house.new_account("other")
    house.let_in(stranger, other_id)
    refused = stranger.post("/jobs", headers={"X-Form-Token": "t", "Accept": script["Accept"]}, json=wanted)
    assert (refused.status_code, refused.mimetype) == (422, "application/problem+json")
    assert "no upload" in refused.get_json()["detail"]


@pytest.mark.parametrize("path", ["/uploads?count=1", "/jobs"])
@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_script_of_another_page_sends_nothing(person: FlaskClient, path: str, token: str | None) -> None:
    assert form_token(person.get("/"))
    headers = {} if token is None else {"X-Form-Token": token}
    answer = person.post(path, headers=headers, json={"items": [{"url": "https://images.example/x.jpg"}]})
    assert answer.status_code == 403


@pytest.mark.parametrize("count", ["0", "1001", "x", ""])
def test_no_uploads_are_made_but_so_many(person: FlaskClient, count: str) -> None:
    answer = person.post(f"/uploads?count={count}", headers={"X-Form-Token": form_token(person.get("/"))})
    assert answer.status_code == 422


def test_what_failed_is_tried_again_as_a_job_of_its_own(house: House, person: FlaskClient) -> None:
    path = drop(person, (b"1", "1.jpg"), (b"2", "2.jpg"))
    form = {"form_token": form_token(person.get("/"))}
    assert person.post(f"{path}/retry", data=form).status_code == 409
    held = house.lease()
    house.record(held, [house.scanned(held.items[0].id), failed(held.items[1].id)])
    answer = person.post(f"{path}/retry", data=form)
    assert answer.status_code == 303
    page = person.get(answer.headers["Location"]).text
    assert "0 of 1 done" in page
    assert f'href="{path}">Retry of an earlier job' in page


def test_a_job_that_has_ended_is_deleted_by_an_admin(house: House, person: FlaskClient) -> None:
    path = drop(person, (b"1", "1.jpg"))
    form = {"form_token": form_token(person.get("/"))}
    assert "Delete it" not in person.get(path).text
    assert person.post(f"{path}/delete", data=form).status_code == 409
    house.scan_all()
    assert "Delete it" in person.get(path).text
    assert person.post(f"{path}/delete", data=form).headers["Location"] == "/"
    assert person.get(path).status_code == 404
    with house.database.read() as session:
        assert audit.newest(session, house.account_id, 1)[0].action == Action.JOB_DELETED


def test_jobs_are_paged_on_the_front_page(house: House, person: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.entrance.RECENT", 2)
    for name in "abc":
        drop(person, (name.encode(), f"{name}.jpg"))
    first = person.get("/").text
    shown = re.compile(r'class="name">(\w)\.jpg<')
    assert shown.findall(first) == ["c", "b"]
    following = re.search(r'href="(/\?after=[^"]+)">Earlier jobs', first)
    assert following
    earlier = person.get(following[1]).text
    assert shown.findall(earlier) == ["a"]
    assert "Newest jobs" in earlier
    assert person.get("/?after=x").status_code == 422


def test_choosing_no_photo_is_answered_on_a_page(person: FlaskClient) -> None:
    form = form_token(person.get("/"))
    answer = person.post("/jobs", data={"form_token": form, "files": (io.BytesIO(b""), "")})
    assert (answer.status_code, answer.mimetype) == (422, "text/html")
    assert "at least one item" in answer.text


XSS = "\"><img src=x onerror=alert(1)>'{{7*7}}<script>alert(1)</script>.jpg"


def test_a_hostile_file_name_is_text(house: House, person: FlaskClient) -> None:
    job_id = house.post("/v1/jobs", data={"files": (io.BytesIO(b"x"), "x.jpg"), "custom_id": XSS, "name": XSS})
    path = f"/jobs/{job_id.get_json()['id']}"
    house.scan_all(face(0.9))
    item_id = house.items(path.rpartition("/")[2])[0].id
    for page in (person.get("/").text, person.get(path).text, person.get(f"/items/{item_id}").text):
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "{{7*7}}" in page


@pytest.mark.parametrize("path", ["/", "/session/x", "/jobs/x", "/nowhere", "/healthz", "/v1/jobs", "/static/page.css"])
def test_every_answer_is_locked_down(person: FlaskClient, path: str) -> None:
    headers = person.get(path).headers
    policy = headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_no_page_needs_what_the_policy_forbids(house: House, person: FlaskClient) -> None:
    path = drop(person, (b"1", "1.jpg"))
    house.scan_all(face(0.9))
    item_id = house.items(path.rpartition("/")[2])[0].id
    for page in ("/", path, f"/items/{item_id}", "/session/x", "/docs"):
        text = person.get(page).text
        assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?! src=)", text), page


def test_scripts_and_styles_are_kept_for_good_under_an_address_of_their_content(person: FlaskClient) -> None:
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', person.get("/review").text)
    assert {address.partition("?")[0] for address in addresses} == {
        "/static/shield.svg", "/static/page.css", "/static/page.js", "/static/review.css", "/static/review.js",
    }  # fmt: skip
    for address in addresses:
        answer = person.get(address)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        path, _, version = address.partition("?v=")
        assert hashlib.sha256(answer.data).hexdigest().startswith(version)
        # Another release's address is answered, and not kept: here is something else than it names.
        for other in (path, f"{path}?v=0123456789ab"):
            assert "immutable" not in person.get(other).headers["Cache-Control"]
    assert person.get("/static/none.js?v=x").status_code == 404


def test_an_error_is_a_page_for_a_browser_and_a_problem_for_a_program(house: House) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    assert house.client.get("/nowhere", headers=browser).mimetype == "text/html"
    assert house.client.get("/nowhere", headers={"Accept": "*/*"}).mimetype == "application/problem+json"
    assert house.client.get("/v1/nowhere", headers=browser).mimetype == "application/problem+json"
    assert house.client.delete("/v1/jobs", headers=browser).headers["Allow"].count("GET") == 1


def test_a_bug_is_logged_and_not_shown(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the inner workings")

    monkeypatch.setattr("shield.jobs.newest", broken)
    answer = house.get("/v1/jobs")
    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal_error")
    assert "inner workings" not in answer.text
    assert "inner workings" in caplog.text
