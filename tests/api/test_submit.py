import io
import sqlite3
from collections.abc import Callable

import pytest
import redis
from sqlalchemy import func, select

from api.errors import RETRY_AFTER_SECONDS
from shield.models import Chunk, Item, Job, Outbox
from shield.queue import CeleryQueue, MemoryQueue, Message
from tests.api.conftest import House, RedisServer, wait_until


def rows(house: House, *tables: type) -> list[int]:
    with house.database.read() as session:
        return [session.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]


def test_files_become_a_durable_job_with_a_place_to_follow_it(house: House) -> None:
    answer = house.upload((b"one", "one.jpg"), (b"two", "two.jpg"), name="Monday")
    job = answer.get_json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert (job["name"], job["state"], job["counts"]["total"], job["counts"]["pending"]) == ("Monday", "queued", 2, 2)
    assert rows(house, Job, Chunk, Item) == [1, 1, 2]
    items = house.items(job["id"])
    assert [item.custom_id for item in items] == ["one.jpg", "two.jpg"]
    assert [house.stores.blobs.get(item.source_blob or "") for item in items] == [b"one", b"two"]


def test_files_may_come_under_any_field_name_and_carry_custom_ids(house: House) -> None:
    body = {
        "a": (io.BytesIO(b"one"), "x.jpg"),
        "b": (io.BytesIO(b"two"), "x.jpg"),
        "custom_id": ["first", "second"],
    }
    answer = house.post("/v1/jobs", data=body)
    assert answer.status_code == 202, answer.text
    assert [item.custom_id for item in house.items(answer.get_json()["id"])] == ["first", "second"]


def test_an_empty_file_is_accepted_and_left_to_the_worker(house: House) -> None:
    answer = house.upload((b"", "empty.jpg"), (b"x", "full.jpg"))
    assert answer.status_code == 202
    assert house.stores.blobs.get(house.items(answer.get_json()["id"])[0].source_blob or "") == b""


def test_a_large_file_arrives_byte_for_byte(house: House) -> None:
    content = bytes(range(256)) * 12_000 + b"\r\n--not-the-boundary\r\n\r"
    answer = house.upload((content, "large.bin"), (b"next", "next.jpg"))
    items = house.items(answer.get_json()["id"])
    assert house.stores.blobs.get(items[0].source_blob or "") == content
    assert house.stores.blobs.get(items[1].source_blob or "") == b"next"


def test_urls_become_items(house: House) -> None:
    body = {"name": "web", "items": [{"url": "https://example.org/a.jpg", "custom_id": "a"}, {"url": "HTTP://h/b?c=d"}]}
    answer = house.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    items = house.items(answer.get_json()["id"])
    expected = [("https://example.org/a.jpg", "a"), ("HTTP://h/b?c=d", None)]
    assert [(item.source_url, item.custom_id) for item in items] == expected


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"items": [{"url": "https://h/"}, {"url": "ftp://h/x"}]}, "/items/1/url"),
        ({"items": [{"url": "file:///etc/passwd"}]}, "/items/0/url"),
        ({"items": [{"url": "https://"}]}, "/items/0/url"),
        ({"items": [{"url": "x.jpg"}]}, "/items/0/url"),
        ({"items": [{"url": "https://h/\0"}]}, "/items/0/url"),
        ({"items": [{"url": "https://h/" + "a" * 4096}]}, "/items/0/url"),
        ({"items": [{"url": 7}]}, "/items/0/url"),
        ({"items": [{}]}, "/items/0"),
        ({"items": [{"url": None}]}, "/items/0"),
        ({"items": [{"url": "https://h/", "upload": "upl_" + "0" * 27}]}, "/items/0"),
        ({"items": [{"upload": "upl_x"}]}, "/items/0/upload"),
        ({"items": [{"url": "s3://h/"}]}, "/items/0/url"),
        ({"items": [{"url": "s3://UPPER/x"}]}, "/items/0/url"),
        ({"items": [{"url": "s3://photos/../x"}]}, "/items/0/url"),
        ({"items": [{"url": "https://h/", "a/b~c": 1}]}, "/items/0/a~1b~0c"),
        ({"items": [{"url": "https://h/", "custom_id": "x" * 1025}]}, "/items/0/custom_id"),
        ({"items": [{"url": "https://h/", "custom_id": "\0"}]}, "/items/0/custom_id"),
        ({"items": []}, "/items"),
        ({"items": None}, ""),
        ({}, ""),
        ({"items": [{"url": "https://h/"}], "priority": 1}, "/priority"),
        ({"items": [{"url": "https://h/"}], "name": "x" * 201}, "/name"),
        ([], ""),
    ],
)
def test_a_wrong_json_body_is_refused_with_a_pointer(house: House, body: object, pointer: str) -> None:
    answer = house.post("/v1/jobs", json=body)
    problem = answer.get_json()
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]
    assert problem["code"] in ("invalid_request", "invalid_submission")
    assert rows(house, Job, Item) == [0, 0]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"custom_id": ["only one"]}, "/custom_id"),
        ({"custom_id": ["a", "b" * 1025]}, "/custom_id/1"),
        ({"name": "x" * 201}, "/name"),
        ({"prority": "high"}, "/prority"),
    ],
)
def test_a_wrong_form_is_refused_with_a_pointer(house: House, fields: dict[str, object], pointer: str) -> None:
    answer = house.upload((b"1", "1.jpg"), (b"2", "2.jpg"), **fields)
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["pointer"] == pointer
    assert rows(house, Job) == [0]


def test_a_form_in_which_no_file_was_chosen_makes_no_job(house: House) -> None:
    answer = house.upload((b"", ""))
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "/files")


@pytest.mark.parametrize(("way", "pointer"), [("files", "/files"), ("urls", "/items")])
def test_too_many_items_are_refused(build: Callable[..., House], way: str, pointer: str) -> None:
    house = build(max_items=2)
    if way == "files":
        answer = house.upload(*((b"x", f"{n}.jpg") for n in range(3)))
    else:
        answer = house.post("/v1/jobs", json={"items": [{"url": "https://h/"}] * 3})
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, pointer)
    assert "2 items" in answer.get_json()["detail"]


def test_as_many_items_as_the_limit_are_taken_with_their_custom_ids(build: Callable[..., House]) -> None:
    house = build(max_items=3)
    answer = house.upload(*((b"x", f"{n}.jpg") for n in range(3)), name="n", custom_id=["a", "b", "c"])
    assert answer.status_code == 202, answer.text


def test_headers_of_a_part_over_their_limit_are_refused_by_that_limit(house: House) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="' + b"x" * 300_000
    answer = house.post("/v1/jobs", data=body, content_type="multipart/form-data; boundary=b")
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")
    assert f"headers of one part are larger than the limit of {256 * 1024} bytes" in answer.get_json()["detail"]


def test_a_file_over_the_limit_is_named(build: Callable[..., House]) -> None:
    house = build(max_image_bytes=2000)
    answer = house.upload((b"x" * 2000, "fits.jpg"), (b"x" * 2001, "huge.jpg"))
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (413, "too_large")
    assert "'huge.jpg'" in problem["detail"]
    assert "2000 bytes" in problem["detail"]
    assert rows(house, Job) == [0]


@pytest.mark.parametrize("way", ["files", "urls"])
def test_a_request_over_the_limit_is_refused(build: Callable[..., House], way: str) -> None:
    house = build(max_request_bytes=4096)
    if way == "files":
        answer = house.upload((b"x" * 5000, "a.jpg"))
    else:
        answer = house.post("/v1/jobs", json={"items": [{"url": "https://h/" + "a" * 4000}] * 2})
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")
    assert "4096 bytes" in answer.get_json()["detail"]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("text/plain", b"x", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", b"a=b", 415, "unsupported_media_type"),
        ("", b"x", 415, "unsupported_media_type"),
        ("application/json", b"{", 400, "malformed_body"),
        ("application/json", b"", 400, "malformed_body"),
        ("application/json", b"\xff", 400, "malformed_body"),
        ("application/json", b'{"items":[{"url":"https://h/","custom_id":"\\ud800"}]}', 400, "malformed_body"),
        ("multipart/form-data", b"x", 400, "malformed_body"),
        ("multipart/form-data; boundary=b", b"x", 400, "malformed_body"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\ncut of',
            400,
            "malformed_body",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\r\n--b--\r\n',
            400,
            "malformed_body",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\nz\r\n--b--\r\n", 400, "malformed_body"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    house: House, content_type: str, body: bytes, status: int, code: str
) -> None:
    answer = house.post("/v1/jobs", data=body, content_type=content_type)
    assert (answer.status_code, answer.get_json()["code"]) == (status, code), answer.text
    assert rows(house, Job) == [0]


def test_the_queue_is_poked_after_the_commit(house: House) -> None:
    assert isinstance(house.queue, MemoryQueue)
    messages = house.queue.messages
    job_id = house.submit(5)
    wait_until(lambda: len(messages) == 2)
    with house.database.read() as session:
        chunks = session.scalars(select(Chunk.id).where(Chunk.job_id == job_id).order_by(Chunk.id)).all()
    assert list(messages) == [Message("worker.scan", "bulk", chunk) for chunk in chunks]
    wait_until(lambda: rows(house, Outbox) == [0])


def test_the_poke_reaches_a_real_redis(build: Callable[..., House], redis_server: RedisServer) -> None:
    house = build(CeleryQueue(redis_server.url))
    house.submit(1)
    wait_until(lambda: rows(house, Outbox) == [0])
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.llen("shield:interactive") == 1


def test_without_redis_the_job_is_accepted_and_its_messages_are_still_owed(
    build: Callable[..., House], redis_server: RedisServer
) -> None:
    redis_server.stop()
    house = build(CeleryQueue(redis_server.url))
    job_id = house.submit(1)
    assert house.get(f"/v1/jobs/{job_id}").get_json()["state"] == "queued"
    assert rows(house, Outbox) == [1]


def test_a_queue_that_breaks_down_stops_no_later_poke(build: Callable[..., House]) -> None:
    class Broken(MemoryQueue):
        broken = True

        def publish(self, messages: list[Message]) -> int:
            if self.broken:
                self.broken = False
                raise RuntimeError("a bug in a client library")
            return super().publish(messages)

    queue = Broken()
    house = build(queue)
    house.submit(1)
    wait_until(lambda: not queue.broken)
    wait_until(house.stores.poker._asked.empty)
    house.submit(1)
    wait_until(lambda: len(queue.messages) == 1)


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_without_the_database_nothing_is_accepted(house: House) -> None:
    holder = sqlite3.connect(house.settings.home / "shield.db", isolation_level=None)
    with house.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
    holder.execute("BEGIN IMMEDIATE")
    try:
        answer = house.upload((b"x", "x.jpg"))
    finally:
        holder.rollback()
        holder.close()
    assert (answer.status_code, answer.get_json()["code"]) == (503, "storage_unavailable")
    assert answer.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
    assert rows(house, Job) == [0]


def test_a_full_disk_is_said_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shield.blobs.copy", full)
    answer = house.upload((b"x", "x.jpg"))
    assert (answer.status_code, answer.get_json()["code"]) == (503, "storage_unavailable")
    assert "No space left" in answer.get_json()["detail"]
