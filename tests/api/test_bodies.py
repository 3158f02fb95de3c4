"""Bodies that are cut short or framed wrongly make nothing, on a server as it runs."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from shield.blobs import LocalBlobs
from tests import zips
from tests.api.conftest import PATIENCE, RedisServer
from tests.api.server import Server, rest_of

FORM = b'--x\r\nContent-Disposition: form-data; name="f"; filename="%d.jpg"\r\n\r\nimage\r\n'
BODIES = {
    "application/jsonl": b'{"url": "https://example.org/a.jpg"}\n' * 100,
    "application/json": b'{"items": [{"url": "https://example.org/a.jpg"}]}' + b" " * 100,
    "application/zip": zips.zip_of(("a.jpg", b"a"), ("b.jpg", b"b")),
    "multipart/form-data; boundary=x": FORM % 1 + FORM % 2 + b"--x--\r\n" + b" " * 100,
}
BROKEN = {"no size": b"zz\r\n", "a size below 0": b"-5\r\nhello\r\n", "no end": b"5\r\nhelloXX", "cut": b"5\r\nhel"}


@pytest.fixture
def server(url: str, tmp_path: Path, redis_server: RedisServer) -> Iterator[Server]:
    server = Server(tmp_path, redis_server.url)
    yield server
    server.close()


@pytest.mark.parametrize("closes", ["half", "fully"])
def test_a_body_cut_short_makes_no_job_and_uses_no_key(server: Server, closes: str) -> None:
    for number, (kind, body) in enumerate(BODIES.items()):
        headers = {"Content-Type": kind, "Idempotency-Key": f"key-{number}"}
        head = server.head("POST", "/v1/jobs", **headers | {"Content-Length": str(len(body))})
        with server.connect(head + body[:-50]) as connection:
            if closes == "half":
                connection.shutdown(socket.SHUT_WR)
                answer = rest_of(connection)
                assert answer.startswith(b"HTTP/1.1 400 "), kind
                assert b'"code":"malformed_body"' in answer
        assert server.jobs() == number
        again = httpx.post(f"{server.url}/v1/jobs", content=body, headers=server.bearer | headers, timeout=PATIENCE)
        assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (202, None), again.text
    assert server.jobs() == len(BODIES)
    assert "Traceback" not in server.log.read_text()


def test_an_upload_cut_short_keeps_what_it_had(server: Server, tmp_path: Path) -> None:
    made = httpx.post(f"{server.url}/v1/uploads", headers=server.bearer).json()["data"][0]
    assert httpx.put(made["url"], content=b"a good image").status_code == 204
    blobs, place = LocalBlobs(tmp_path / "blobs"), urlsplit(made["url"])
    head = server.head("PUT", f"{place.path}?{place.query}", **{"Content-Length": "1000"})
    with server.connect(head + b"torn") as half:
        half.shutdown(socket.SHUT_WR)
        assert b'"code":"malformed_body"' in rest_of(half)
    server.connect(head + b"torn").close()
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert blobs.get_upload(made["id"], 100) == b"a good image"


def test_a_body_in_malformed_chunks_is_refused_without_a_traceback(server: Server) -> None:
    for kind in BODIES:
        for chunks in BROKEN.values():
            head = server.head("POST", "/v1/jobs", **{"Content-Type": kind, "Transfer-Encoding": "chunked"})
            with server.connect(head + chunks) as connection:
                connection.shutdown(socket.SHUT_WR)
                answer = rest_of(connection)
            assert answer.startswith(b"HTTP/1.1 400 "), (kind, chunks)
            assert answer.count(b"HTTP/1.1") == 1
            assert b'"code":"malformed_body"' in answer
    assert server.jobs() == 0
    assert "Traceback" not in server.log.read_text()
