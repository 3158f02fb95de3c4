"""Retry, delete, idempotency keys, progress and the backlog, over HTTP."""

import io
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from shield.models import Job
from tests.api.conftest import House, failed

Build = Callable[..., House]
URLS = {"items": [{"url": "https://example.org/a.jpg"}]}


def scan_all(house: House, *, failing: int = 0) -> None:
    """Record the next chunk, its first items as failed."""
    held = house.lease()
    house.record(held, [failed(i.id) if n < failing else house.scanned(i.id) for n, i in enumerate(held.items)])


def post(house: House, key: str | None = None, path: str = "/v1/jobs", **body: Any) -> TestResponse:
    headers = house.bearer | ({"Idempotency-Key": key} if key is not None else {})
    return house.client.post(path, headers=headers, json=body or (URLS if path == "/v1/jobs" else None))


def code(answer: TestResponse) -> tuple[int, str]:
    assert answer.mimetype == "application/problem+json"
    return answer.status_code, str(answer.get_json()["code"])


def count(house: House) -> int:
    with house.database.read() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


def test_a_retry_makes_a_new_job_of_what_failed(house: House) -> None:
    job_id = house.submit(4)
    scan_all(house, failing=2)
    answer = house.post(f"/v1/jobs/{job_id}/retry")
    again = answer.get_json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/jobs/{again['id']}")
    assert (again["retry_of"], again["state"], again["counts"]["total"]) == (job_id, "queued", 2)
    items = house.get(f"/v1/jobs/{again['id']}/items").get_json()["data"]
    assert [item["custom_id"] for item in items] == ["0.jpg", "1.jpg"]
    scan_all(house)
    old = house.get(f"/v1/jobs/{job_id}").get_json()
    assert (old["counts"]["failed"], old["retry_of"], old["links"]["retry"]) == (2, None, f"/v1/jobs/{job_id}/retry")
    assert code(house.post(f"/v1/jobs/{again['id']}/retry")) == (409, "nothing_to_retry")


def test_a_job_that_runs_is_neither_retried_nor_deleted(house: House) -> None:
    job_id = house.submit(5)
    scan_all(house, failing=4)
    for answer in (house.post(f"/v1/jobs/{job_id}/retry"), delete(house, job_id)):
        assert code(answer) == (409, "job_running")
        assert "cancel it first" in answer.get_json()["detail"]
    assert house.get(f"/v1/jobs/{job_id}").get_json()["state"] == "running"


def delete(house: House, job_id: str, bearer: dict[str, str] | None = None) -> TestResponse:
    return house.client.delete(f"/v1/jobs/{job_id}", headers=bearer or house.bearer)


def test_a_deleted_job_is_as_unknown_as_none(house: House) -> None:
    job_id, other = house.submit(1), house.submit(1)
    item_id = house.items(job_id)[0].id
    scan_all(house, failing=1)
    _, key = house.new_account("other")
    assert code(delete(house, job_id, {"Authorization": f"Bearer {key}"})) == (404, "not_found")
    answer = delete(house, job_id)
    assert (answer.status_code, answer.data, answer.headers.get("Content-Type")) == (204, b"", None)
    for path in ("", "/items", "/results"):
        assert code(house.get(f"/v1/jobs/{job_id}{path}")) == (404, "not_found")
    for path in ("/cancel", "/retry"):
        assert code(house.post(f"/v1/jobs/{job_id}{path}")) == (404, "not_found")
    for path in ("", "/view"):
        assert code(house.get(f"/v1/items/{item_id}{path}")) == (404, "not_found")
    assert code(delete(house, job_id)) == (404, "not_found")
    assert [job["id"] for job in house.get("/v1/jobs").get_json()["data"]] == [other]
    house.sign_in(house.client)
    assert job_id not in house.client.get("/").text
    for page in (f"/jobs/{job_id}", f"/jobs/{job_id}/results.jsonl", f"/items/{item_id}", f"/items/{item_id}/view"):
        assert house.client.get(page).status_code == 404


def test_a_key_makes_one_job_and_a_repetition_reads_it_as_it_is_now(house: House) -> None:
    first = post(house, "k 1")
    assert (first.status_code, "Idempotent-Replayed" in first.headers) == (202, False)
    scan_all(house)
    again = post(house, "k 1")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert again.headers["Location"] == first.headers["Location"]
    assert again.get_json() == house.get(f"/v1/jobs/{first.get_json()['id']}").get_json()
    assert again.get_json()["state"] == "ended"
    assert count(house) == 1
    assert post(house).get_json()["id"] != post(house).get_json()["id"]


def test_a_key_of_another_request_is_refused(house: House) -> None:
    post(house, "k")
    other = [{"url": "https://example.org/a.jpg", "custom_id": "a"}]
    assert code(post(house, "k", items=other)) == (422, "idempotency_key_reused")
    assert code(post(house, "k", name="x", items=URLS["items"])) == (422, "idempotency_key_reused")
    assert count(house) == 1


def test_files_are_compared_by_their_bytes(house: House) -> None:
    def send(content: bytes) -> TestResponse:
        data = {"files": (io.BytesIO(content), "a.jpg")}
        return house.client.post("/v1/jobs", headers=house.bearer | {"Idempotency-Key": "k"}, data=data)

    first = send(b"one").get_json()["id"]
    assert send(b"one").get_json()["id"] == first
    assert code(send(b"two")) == (422, "idempotency_key_reused")


def test_a_manifest_is_sent_once_too(house: House) -> None:
    def send(content: bytes) -> TestResponse:
        headers = house.bearer | {"Idempotency-Key": "k", "Content-Type": "application/jsonl"}
        return house.client.post("/v1/jobs", headers=headers, data=content)

    first = send(b'{"url": "https://example.org/a.jpg"}\n')
    assert first.get_json()["state"] == "expanding"
    assert send(b'{"url": "https://example.org/a.jpg"}\n').get_json()["id"] == first.get_json()["id"]
    assert code(send(b'{"url": "https://example.org/b.jpg"}\n')) == (422, "idempotency_key_reused")
    assert count(house) == 1


def test_a_job_that_expands_is_shown_as_one_and_can_be_canceled(house: House) -> None:
    job_id = house.post("/v1/jobs", data=b'{"url": "https://h/a.jpg"}', content_type="application/jsonl").get_json()[
        "id"
    ]
    job = house.get(f"/v1/jobs/{job_id}").get_json()
    assert (job["state"], job["progress"], job["eta_seconds"], job["counts"]["total"]) == ("expanding", 0.0, None, 0)
    house.sign_in(house.client)
    page = house.client.get(f"/jobs/{job_id}")
    assert (page.status_code, "Preparing" in page.text) == (200, True)
    canceled = house.post(f"/v1/jobs/{job_id}/cancel").get_json()
    assert (canceled["state"], canceled["progress"]) == ("ended", 1.0)
    assert "Ended" in house.client.get(f"/jobs/{job_id}").text


def test_a_retry_is_made_once_for_a_key(house: House) -> None:
    job_id = house.submit(2)
    scan_all(house, failing=2)
    path = f"/v1/jobs/{job_id}/retry"
    first, again = post(house, "k", path), post(house, "k", path)
    assert (again.get_json()["id"], again.headers["Idempotent-Replayed"]) == (first.get_json()["id"], "true")
    assert post(house, "l", path).get_json()["id"] != first.get_json()["id"]
    assert code(post(house, "k")) == (422, "idempotency_key_reused")


def test_a_key_whose_job_was_deleted_makes_no_other(house: House) -> None:
    job_id = post(house, "k").get_json()["id"]
    scan_all(house)
    delete(house, job_id)
    assert code(post(house, "k")) == (404, "not_found")


@pytest.mark.parametrize("key", ["", "ü", "x" * 256, "a\tb"])
def test_a_key_that_cannot_be_one_is_refused_with_a_pointer(house: House, key: str) -> None:
    answer = post(house, key)
    assert code(answer) == (422, "invalid_request")
    assert [fault["pointer"] for fault in answer.get_json()["errors"]] == ["/Idempotency-Key"]
    assert count(house) == 0


def test_progress_and_the_time_that_is_left_are_told(house: House) -> None:
    job_id = house.submit(8)
    job = house.get(f"/v1/jobs/{job_id}").get_json()
    assert (job["progress"], job["eta_seconds"], job["expires_at"]) == (0.0, None, None)
    scan_all(house, failing=2)
    with house.database.write() as session:  # it has taken a minute so far
        row = session.get_one(Job, job_id)
        assert row.started_at is not None
        row.started_at -= timedelta(minutes=1)
    job = house.get(f"/v1/jobs/{job_id}").get_json()
    assert (job["progress"], job["counts"]["rejected"]) == (0.5, 0)
    assert 60 <= job["eta_seconds"] <= 90
    scan_all(house)
    job = house.get(f"/v1/jobs/{job_id}").get_json()
    assert (job["progress"], job["eta_seconds"]) == (1.0, None)
    left = datetime.fromisoformat(job["expires_at"]) - datetime.fromisoformat(job["ended_at"])
    assert left == timedelta(days=house.settings.retention_days)
    assert (job["reason"], job["reason_detail"]) == (None, None)


@pytest.mark.parametrize("what", ["urls", "files", "manifest", "retry", "form"])
def test_a_full_backlog_accepts_nothing(build: Build, what: str) -> None:
    house = build(chunk_items=4, max_backlog_items=3)
    done = house.submit(1)
    scan_all(house, failing=1)
    house.submit(4)
    before = count(house)
    if what == "form":
        house.sign_in(house.client)
        page = house.client.get("/").text
        token = page.partition('name="form_token" value="')[2].partition('"')[0]
        data = {"files": (io.BytesIO(b"x"), "a.jpg"), "form_token": token}
        answer = house.client.post("/jobs", data=data)
        assert answer.status_code == 503
    else:
        send: dict[str, Callable[[], TestResponse]] = {
            "urls": lambda: post(house),
            "files": lambda: house.upload((b"x", "a.jpg")),
            "manifest": lambda: house.post("/v1/jobs", data=b"{}\n", content_type="application/jsonl"),
            "retry": lambda: house.post(f"/v1/jobs/{done}/retry"),
        }
        answer = send[what]()
        assert code(answer) == (503, "backlog_full")
    assert int(answer.headers["Retry-After"]) > 5
    assert count(house) == before
    scan_all(house)
    assert post(house).status_code == 202


def test_a_full_backlog_is_told_before_a_body_is_read(build: Build) -> None:
    house = build(chunk_items=4, max_backlog_items=1)
    house.submit(2)
    unread = io.BytesIO(b"x" * 1000)
    answer = house.client.post(
        "/v1/jobs", headers=house.bearer, input_stream=unread, content_length=1000, content_type="multipart/form-data"
    )
    assert code(answer) == (503, "backlog_full")
    assert unread.tell() == 0


def test_a_full_backlog_answers_a_key_with_the_job_that_it_made(build: Build) -> None:
    house = build(chunk_items=4, max_backlog_items=1)
    job_id = post(house, "first").get_json()["id"]
    house.submit(2)
    assert code(post(house, "second")) == (503, "backlog_full")
    again = post(house, "first")
    assert (again.status_code, again.get_json()["id"], again.headers["Idempotent-Replayed"]) == (202, job_id, "true")


def test_a_backlog_that_one_account_fills_refuses_no_other(build: Build) -> None:
    house = build(chunk_items=4, max_backlog_items=1)
    house.submit(2)
    assert code(post(house)) == (503, "backlog_full")
    _, key = house.new_account("other")
    answer = house.client.post("/v1/jobs", headers={"Authorization": f"Bearer {key}"}, json=URLS)
    assert answer.status_code == 202
