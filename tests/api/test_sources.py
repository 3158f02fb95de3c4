"""Long sources over HTTP: what is accepted is durable and expands later; what is hostile or unreadable is refused."""

import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from shield import accounts, buckets, expansion, uploads
from shield.buckets import Place
from shield.expansion import Expanding, Rejected, Step
from shield.models import Chunk, Item, Job, Outbox, Source
from shield.settings import MIB
from tests import zips
from tests.api.conftest import House

JSONL = "application/jsonl"
ZIP = "application/zip"
LINE = b'{"url": "https://example.org/a.jpg", "custom_id": "a"}\n'


def send(house: House, body: bytes, content_type: str = JSONL, query: str = "") -> TestResponse:
    return house.post(f"/v1/jobs{query}", data=body, content_type=content_type)


def source(house: House, job_id: str) -> Source:
    with house.database.read() as session:
        found: Source = session.get_one(Source, job_id)
        return found


def rows(house: House, *tables: type) -> list[int]:
    with house.database.read() as session:
        return [session.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]


def code(answer: TestResponse) -> tuple[int, str]:
    assert answer.mimetype == "application/problem+json", answer.text
    return answer.status_code, answer.get_json()["code"]


def grant(house: House, bucket: str, prefix: str) -> None:
    with house.database.write() as session:
        buckets.grant(session, house.account_id, Place(bucket, prefix))


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        (LINE * 3, JSONL, "manifest"),
        (LINE, "application/x-ndjson", "manifest"),
        (LINE, "application/jsonl; charset=utf-8", "manifest"),
        (b"\xef\xbb\xbf\n  \n" + LINE.strip(), JSONL, "manifest"),
        (b"{}\nno JSON at all", JSONL, "manifest"),
        (zips.zip_of(("a.jpg", b"a"), ("d/", b"")), ZIP, "zip"),
    ],
)
def test_a_long_source_is_durable_before_it_is_expanded(
    house: House, body: bytes, content_type: str, kind: str
) -> None:
    answer = send(house, body, content_type, "?name=Monday")
    assert answer.status_code == 202, answer.text
    job = answer.get_json()
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["name"], job["counts"]["total"]) == ("expanding", "Monday", 0)
    kept = source(house, job["id"])
    assert (kept.kind, kept.account_id, kept.url) == (kind, house.account_id, None)
    assert house.stores.blobs.get(kept.blob or "") == body
    assert rows(house, Item, Chunk, Outbox) == [0, 0, 0]


def test_a_manifest_that_comes_in_many_pieces_is_stored_byte_for_byte(house: House) -> None:
    body = b"".join(json.dumps({"url": f"https://h/{n}", "custom_id": "x" * 200}).encode() + b"\n" for n in range(5000))
    answer = send(house, body)
    assert house.stores.blobs.get(source(house, answer.get_json()["id"]).blob or "") == body


@pytest.mark.parametrize(("content_type", "status"), [(JSONL, 202), (ZIP, 422)], ids=["manifest", "no zip"])
def test_a_body_is_never_held_in_memory(house: House, tmp_path: Path, content_type: str, status: int) -> None:
    size = 32 * MIB
    body = tmp_path / "body"
    body.write_bytes(LINE * (size // len(LINE)))
    tracemalloc.start()
    with body.open("rb") as stream:
        answer = house.client.post("/v1/jobs", headers=house.bearer, input_stream=stream, content_type=content_type)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status_code == status, answer.text
    assert peak < size / 4


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "invalid_submission"),
        (b"\n \r\n\t\n", "invalid_submission"),
        (b"\xef\xbb\xbf", "invalid_submission"),
        (b"url,custom_id\nhttps://h/a.jpg,a\n", "not_jsonl"),
        (b'[{"url": "https://h/"}]\n', "not_jsonl"),
        (b'{\n  "url": "https://h/"\n}\n', "not_jsonl"),
        (b'"https://h/"\n', "not_jsonl"),
        (b"\xff\xd8\xff\xe0", "not_jsonl"),
        (b"[" * 60_000, "not_jsonl"),
        (b'{"a":' * 10_000 + b"\n", "not_jsonl"),
        (b'{"url": "https://h/' + b"x" * 70_000 + b'"}\n', "not_jsonl"),
        (b"\n" * 200_000 + LINE, "not_jsonl"),
    ],
)
def test_a_manifest_whose_first_line_is_no_object_is_refused(house: House, body: bytes, expected: str) -> None:
    answer = send(house, body)
    assert code(answer) == (422, expected)
    assert rows(house, Job, Source) == [0, 0]


@pytest.mark.parametrize("kind", zips.HOSTILE)
def test_a_hostile_zip_is_refused(house: House, kind: str) -> None:
    content, expected = zips.HOSTILE[kind]
    answer = send(house, content, ZIP)
    assert code(answer) == (422, expected)
    assert rows(house, Job, Source) == [0, 0]


def test_an_unsafe_member_is_named(house: House) -> None:
    answer = send(house, zips.zip_of(("ok.jpg", b"x"), ("../x.jpg", b"x")), ZIP)
    assert "'../x.jpg' leads out of its folder" in answer.get_json()["detail"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"max_source_items": 2}, "more than 2 members"),
        ({"max_zip_bytes": 2999}, "more than 2999 bytes"),
        ({"max_zip_ratio": 1}, "more than 1 for each byte"),
    ],
)
def test_a_zip_over_a_limit_is_refused(build: Callable[..., House], changes: dict[str, int], why: str) -> None:
    house = build(**changes)
    content = zips.zip_of(*((f"{n}.jpg", bytes(1000)) for n in range(3)))
    answer = send(house, content, ZIP)
    assert code(answer) == (422, "zip_bomb")
    assert why in answer.get_json()["detail"]


@pytest.mark.parametrize("content", [zips.zip_of(), zips.zip_of(("d/", b""), ("", b"x"))])
def test_a_zip_without_a_file_makes_no_job(house: House, content: bytes) -> None:
    assert code(send(house, content, ZIP)) == (422, "invalid_submission")


def test_a_zip_in_a_zip_is_accepted_and_left_to_the_worker(house: House) -> None:
    assert send(house, zips.zip_of(("inner.zip", zips.zip_of(("a.jpg", b"x")))), ZIP).status_code == 202


@pytest.mark.parametrize(("body", "content_type"), [(LINE * 200, JSONL), (bytes(5000), ZIP)])
def test_a_source_over_the_limit_of_a_request_is_refused(
    build: Callable[..., House], body: bytes, content_type: str
) -> None:
    house = build(max_request_bytes=4096)
    for chunked in (False, True):
        environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""} if chunked else {}
        answer = house.client.post(
            "/v1/jobs",
            headers=house.bearer,
            input_stream=io.BytesIO(body),
            content_type=content_type,
            environ_overrides=environ,
            content_length=None if chunked else len(body),
        )
        assert code(answer) == (413, "too_large")
    assert rows(house, Job) == [0]
    assert not [path for path in house.stores.settings.blob_folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("query", "pointer"), [("?nme=x", "/nme"), ("?name=" + "x" * 201, "/name"), ("?name=%00", "/name")]
)
@pytest.mark.parametrize(("body", "content_type"), [(LINE, JSONL), (zips.zip_of(("a", b"a")), ZIP)])
def test_a_wrong_parameter_is_refused_with_a_pointer(
    house: House, body: bytes, content_type: str, query: str, pointer: str
) -> None:
    answer = send(house, body, content_type, query)
    assert code(answer) == (422, "invalid_request")
    assert answer.get_json()["errors"][0]["pointer"] == pointer


def test_a_prefix_that_the_account_may_read_is_accepted(house: House) -> None:
    grant(house, "photos", "2026/")
    answer = house.post("/v1/jobs", json={"name": "Monday", "prefix": "s3://photos/2026/may/"})
    assert answer.status_code == 202, answer.text
    kept = source(house, answer.get_json()["id"])
    assert (kept.kind, kept.url, kept.blob) == ("prefix", "s3://photos/2026/may/", None)


@pytest.mark.parametrize("prefix", ["s3://photos/", "s3://photos/2025/", "s3://photos/202", "s3://others/2026/"])
def test_a_prefix_without_a_grant_is_forbidden(house: House, prefix: str) -> None:
    grant(house, "photos", "2026/")
    with house.database.write() as session:
        other = accounts.create_account(session, "other").id
        buckets.grant(session, other, Place("others", ""))
    answer = house.post("/v1/jobs", json={"prefix": prefix})
    assert code(answer) == (403, "s3_forbidden")
    assert answer.get_json()["errors"][0]["pointer"] == "/prefix"
    assert rows(house, Job) == [0]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"prefix": "https://photos/2026/"}, "/prefix"),
        ({"prefix": "s3://127.0.0.1/x"}, "/prefix"),
        ({"prefix": "s3://photos/../x/"}, "/prefix"),
        ({"prefix": "s3://photos/" + "x" * 1025}, "/prefix"),
        ({"prefix": "s3://photos/\0"}, "/prefix"),
        ({"prefix": 7}, "/prefix"),
        ({"prefix": "s3://photos/", "items": []}, "/items"),
        ({"prefix": "s3://photos/", "items": [{"url": "https://example.org/a.jpg"}]}, ""),
        ({"prefix": None}, ""),
    ],
)
def test_a_wrong_prefix_is_refused_with_a_pointer(house: House, body: object, pointer: str) -> None:
    answer = house.post("/v1/jobs", json=body)
    assert code(answer) == (422, "invalid_request")
    assert answer.get_json()["errors"][0]["pointer"] == pointer


def test_items_in_s3_and_uploads_of_the_account_are_accepted(house: House) -> None:
    grant(house, "photos", "2026/")
    with house.database.write() as session:
        upload = uploads.create(session, house.account_id, 1, 1.0)[0].id
    items = [{"url": "s3://photos/2026/a b%20?.jpg", "custom_id": "a"}, {"upload": upload}, {"url": "https://h/"}]
    answer = house.post("/v1/jobs", json={"items": items})
    assert answer.status_code == 202, answer.text
    kept = [(item.source_url, item.source_upload) for item in house.items(answer.get_json()["id"])]
    assert kept == [("s3://photos/2026/a b%20?.jpg", None), (None, upload), ("https://h/", None)]


def test_an_item_in_s3_without_a_grant_is_forbidden_with_a_pointer(house: House) -> None:
    answer = house.post("/v1/jobs", json={"items": [{"url": "https://h/"}, {"url": "s3://photos/a.jpg"}]})
    assert code(answer) == (403, "s3_forbidden")
    assert answer.get_json()["errors"][0]["pointer"] == "/items/1/url"
    assert rows(house, Job) == [0]


def test_an_upload_of_another_account_is_as_unknown_as_any(house: House) -> None:
    other, _ = house.new_account("other")
    with house.database.write() as session:
        foreign = uploads.create(session, other, 1, 1.0)[0].id
    for upload in (foreign, "upl_" + "0" * 27):
        answer = house.post("/v1/jobs", json={"items": [{"upload": upload}]})
        assert code(answer) == (422, "invalid_submission")
        assert answer.get_json()["errors"][0]["pointer"] == "/items/0/upload"
    assert rows(house, Job) == [0]


def reject(house: House, job_id: str, count: int) -> None:
    """A worker's part: the next `count` lines of the job's manifest are no items."""
    with house.database.write() as session:
        here = expansion.next_source(session, house.account_id, "")
        assert isinstance(here, Expanding)
        assert here.job_id == job_id
        lines = [Rejected(here.position + n, "not_json", f"no {n}") for n in range(1, count + 1)]
        assert expansion.advance(session, here, Step([], lines, here.position + count, str(count), False), 4)


def test_rejections_are_listed_in_pages(house: House) -> None:
    job_id = send(house, LINE).get_json()["id"]
    assert house.get(f"/v1/jobs/{job_id}/rejections").get_json() == {
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }
    reject(house, job_id, 5)
    first = house.get(f"/v1/jobs/{job_id}/rejections", limit=3).get_json()
    assert first["data"][0] == {"position": 1, "code": "not_json", "detail": "no 1"}
    assert ([one["position"] for one in first["data"]], first["has_more"], first["last_id"]) == ([1, 2, 3], True, 3)
    rest = house.get(f"/v1/jobs/{job_id}/rejections", limit=3, after=first["last_id"]).get_json()
    assert ([one["position"] for one in rest["data"]], rest["has_more"]) == ([4, 5], False)


@pytest.mark.parametrize("query", [{"after": "x"}, {"after": -1}, {"after": 2**63}, {"limit": 0}, {"state": "x"}])
def test_a_wrong_page_of_rejections_is_refused(house: House, query: dict[str, object]) -> None:
    job_id = send(house, LINE).get_json()["id"]
    assert code(house.get(f"/v1/jobs/{job_id}/rejections", **query)) == (422, "invalid_request")


def test_rejections_of_another_account_are_as_unknown_as_any(house: House) -> None:
    job_id = send(house, LINE).get_json()["id"]
    _, key = house.new_account("other")
    for unknown in (job_id, "job_" + "0" * 27, "x"):
        answer = house.client.get(f"/v1/jobs/{unknown}/rejections", headers={"Authorization": f"Bearer {key}"})
        assert code(answer) == (404, "not_found")
    assert house.client.get(f"/v1/jobs/{job_id}/rejections").status_code == 401


@pytest.mark.parametrize("kind", ["application/json", JSONL, ZIP, "multipart/form-data; boundary=x"])
def test_a_compressed_body_is_refused(house: House, kind: str) -> None:
    headers = house.bearer | {"Content-Encoding": "gzip"}
    answer = house.client.post("/v1/jobs", headers=headers, data=LINE, content_type=kind)
    assert code(answer) == (415, "unsupported_media_type")
    assert rows(house, Job) == [0]


def test_a_byte_order_mark_before_json_is_passed_over(house: House) -> None:
    body = b'\xef\xbb\xbf{"items": [{"url": "https://example.org/a.jpg"}]}'
    assert send(house, body, "application/json").status_code == 202
    assert (
        house.post("/v1/uploads", data=b'\xef\xbb\xbf{"count": 2}', content_type="application/json").status_code == 201
    )


def test_progress_is_none_of_it_while_a_job_expands(house: House) -> None:
    job_id = send(house, LINE * 3).get_json()["id"]
    with house.database.write() as session:
        job = session.get_one(Job, job_id)
        job.total, job.failed = 2, 1
    shown = house.get(f"/v1/jobs/{job_id}").get_json()
    assert (shown["state"], shown["progress"], shown["counts"]["failed"]) == ("expanding", 0.0, 1)
