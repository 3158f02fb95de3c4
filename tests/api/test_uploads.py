"""Uploads: made with a key, put without one, to our own signed URL or straight to S3."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from werkzeug.test import TestResponse

from api import uploads as routes
from api.app import create_app
from shield.errors import UploadMissing
from shield.queue import MemoryQueue
from tests.api.conftest import House
from tests.s3 import S3Server, nanio

LIMIT = 2048


@pytest.fixture
def house(build: Callable[..., House]) -> House:
    return build(max_image_bytes=LIMIT)


def make(house: House, **body: object) -> list[dict[str, Any]]:
    answer = house.post("/v1/uploads", json=body) if body else house.post("/v1/uploads")
    assert answer.status_code == 201, answer.text
    data: list[dict[str, Any]] = answer.get_json()["data"]
    return data


def put(house: House, url: str, content: bytes, **more: object) -> TestResponse:
    """As whoever has the URL does: without a key or a session."""
    path = url.removeprefix("http://localhost")
    return house.app.test_client().put(path, data=content, **more)


def test_an_upload_is_made_put_without_a_key_and_put_again(house: House) -> None:
    [upload] = make(house)
    assert (upload["method"], upload["headers"]) == ("PUT", {})
    expires = datetime.fromisoformat(upload["expires_at"])
    assert timedelta(minutes=59) < expires - datetime.now(UTC) <= timedelta(hours=1)
    for content in (b"first", b"", b"again"):
        answer = put(house, upload["url"], content)
        assert (answer.status_code, answer.data) == (204, b"")
        assert house.stores.blobs.get_upload(upload["id"], LIMIT) == content


@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_the_body_is_the_image_whatever_its_content_type(house: House, kind: str) -> None:
    [upload] = make(house)
    content = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--\r\n"
    assert put(house, upload["url"], content, content_type=kind).status_code == 204
    assert house.stores.blobs.get_upload(upload["id"], LIMIT) == content


def test_many_uploads_are_made_at_once_each_with_its_own_url(house: House) -> None:
    made = make(house, count=1000)
    assert len({upload["id"] for upload in made}) == len({upload["url"] for upload in made}) == 1000


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"count": 0}', 422, "invalid_request"),
        (b'{"count": 1001}', 422, "invalid_request"),
        (b'{"count": "many"}', 422, "invalid_request"),
        (b'{"n": 3}', 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b"{", 400, "malformed_body"),
        (b" " * 5000, 413, "too_large"),
    ],
)
def test_what_cannot_be_made_is_said_so(house: House, body: bytes, status: int, code: str) -> None:
    answer = house.post("/v1/uploads", data=body, content_type="application/json")
    assert (answer.status_code, answer.get_json()["code"]) == (status, code)


def test_a_body_of_another_type_is_refused(house: House) -> None:
    answer = house.post("/v1/uploads", data=b"count=3", content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, answer.get_json()["code"]) == (415, "unsupported_media_type")


def test_an_image_over_the_limit_is_refused_and_nothing_of_it_is_kept(house: House) -> None:
    [upload] = make(house)
    answer = put(house, upload["url"], bytes(LIMIT + 1))
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")
    with pytest.raises(UploadMissing):
        house.stores.blobs.get_upload(upload["id"], LIMIT)
    assert put(house, upload["url"], bytes(LIMIT)).status_code == 204


def test_a_url_that_was_changed_is_refused(house: House) -> None:
    first, second = make(house, count=2)
    url = first["url"]
    query = parse_qs(urlsplit(url).query)
    expires, signature = query["expires"][0], query["signature"][0]
    for forged in (
        url.replace(signature, "0" * 64),
        url.replace(signature, ""),
        url.replace(signature, "é"),
        url.replace(expires, str(int(expires) + 1)),
        url.replace(expires, ""),
        url.replace(expires, "soon"),
        url.replace(first["id"], second["id"]),
        url.replace(first["id"], "nothing"),
        url.partition("?")[0],
    ):
        assert forged != url
        answer = put(house, forged, b"x")
        assert (answer.status_code, answer.get_json()["code"]) == (403, "upload_url_invalid"), forged
    for upload in (first, second):
        with pytest.raises(UploadMissing):
            house.stores.blobs.get_upload(upload["id"], LIMIT)


def test_a_url_is_of_no_use_once_it_has_expired(house: House) -> None:
    [upload] = make(house)
    past = str(int(time.time()) - 1)
    with house.app.app_context():
        signature = routes._signature(upload["id"], past)
    answer = put(house, f"/v1/uploads/{upload['id']}/content?expires={past}&signature={signature}", b"x")
    assert (answer.status_code, answer.get_json()["code"]) == (403, "upload_url_expired")


def test_a_url_is_of_no_use_where_the_secret_is_another(house: House, tmp_path: Path) -> None:
    [upload] = make(house)
    other = create_app(house.settings.model_copy(update={"secret_key": SecretStr("another secret")}), MemoryQueue())
    answer = other.test_client().put(upload["url"].removeprefix("http://localhost"), data=b"x")
    assert (answer.status_code, answer.get_json()["code"]) == (403, "upload_url_invalid")


def test_a_disk_that_takes_nothing_is_said_so(house: House) -> None:
    [upload] = make(house)
    folder = house.settings.blob_folder / "uploads"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()  # no upload can be kept under a file
    answer = put(house, upload["url"], b"x")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "storage_unavailable")


def test_a_signed_url_is_not_logged(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    [upload] = make(house)
    put(house, upload["url"].replace("signature=", "signature=0"), b"x")
    put(house, upload["url"], bytes(LIMIT + 1))
    (house.settings.blob_folder / "uploads").touch()
    assert put(house, upload["url"], b"x").status_code == 503
    assert "cannot take this now" in caplog.text
    assert parse_qs(urlsplit(upload["url"]).query)["signature"][0] not in caplog.text


@pytest.fixture
def s3_server(tmp_path: Path) -> Iterator[S3Server]:
    with nanio(tmp_path / "nanio") as server:
        yield server


def test_on_s3_the_bytes_go_straight_to_the_bucket(
    build: Callable[..., House], s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = s3_server.settings(monkeypatch, tmp_path, blobs=f"s3://{s3_server.new_bucket()}/shield")
    house = build(blobs=found.blobs, s3_endpoint_url=found.s3_endpoint_url)
    first, second = make(house, count=2)
    assert first["url"].startswith(s3_server.url)
    assert (first["method"], first["headers"]) == ("PUT", {})
    assert httpx.request(first["method"], first["url"], headers=first["headers"], content=b"one").status_code == 200
    assert httpx.put(first["url"].replace(first["id"], second["id"]), content=b"two").status_code == 403
    assert house.stores.blobs.get_upload(first["id"], LIMIT) == b"one"
    with pytest.raises(UploadMissing):
        house.stores.blobs.get_upload(second["id"], LIMIT)


def test_a_job_is_submitted_and_its_blobs_lie_in_s3(
    build: Callable[..., House], s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = s3_server.settings(monkeypatch, tmp_path, blobs=f"s3://{s3_server.new_bucket()}/shield")
    house = build(blobs=found.blobs, s3_endpoint_url=found.s3_endpoint_url)
    assert house.get("/readyz").get_json()["storage"] == "up"
    item = house.items(house.submit(1))[0]
    with house.stores.blobs.open(item.source_blob or "") as stream:
        assert stream.read() == b"photo 0"
    assert not (tmp_path / "blobs").exists()
