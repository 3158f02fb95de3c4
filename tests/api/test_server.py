"""`python -m api` as a process of its own."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update

from api.problems import LOCKED_DOWN
from shield import accounts, jobs
from shield.jobs import NewItem
from shield.models import Item
from shield.states import ItemState
from tests.api.conftest import PATIENCE, ROOT, RedisServer
from tests.api.server import Server, rest_of


@pytest.fixture
def server(url: str, tmp_path: Path, redis_server: RedisServer) -> Iterator[Server]:
    server = Server(tmp_path, redis_server.url)
    yield server
    server.close()


def test_the_server_serves_refuses_and_stops_cleanly(server: Server) -> None:
    assert httpx.get(f"{server.url}/readyz").json()["state"] == "ready"
    accepted = server.post(b"x" * 90_000, server.key)
    assert accepted.status_code == 202
    job = httpx.get(server.url + accepted.headers["Location"], headers={"Authorization": f"Bearer {server.key}"})
    assert job.json()["counts"]["total"] == 1
    # The client gets the answer although its body was not read to the end.
    assert server.post(b"x" * 1_900_000, server.key).status_code == 413
    assert server.post(b"x" * 5_000_000, server.key).status_code == 413
    assert server.post(b"x" * 1_900_000, "wrong").status_code == 401
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0


def test_what_says_that_it_came_through_a_proxy_is_believed_by_nobody_where_there_is_none(server: Server) -> None:
    answer = httpx.get(f"{server.url}/login", headers={"X-Forwarded-Proto": "https"})
    assert answer.headers["Set-Cookie"].startswith("shield=")
    assert "Secure" not in answer.headers["Set-Cookie"]


def test_clients_that_stop_in_mid_request_give_their_threads_back(server: Server) -> None:
    head = b"POST /session/x HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    manifest = {"Content-Type": "application/jsonl", "Content-Length": "100000"}
    with (
        server.connect(b"GET /hea") as half_a_line,
        server.connect(head + b"Content-Length: 100\r\n\r\nx") as half_a_body,
        server.connect(server.head("POST", "/v1/jobs", **manifest) + b"{") as trickling,
    ):
        assert httpx.get(f"{server.url}/healthz", timeout=PATIENCE).status_code == 200
        while not select.select([trickling], [], [], 0.1)[0]:
            trickling.sendall(b"x")
        assert trickling.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert half_a_body.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert half_a_line.recv(1000) == b""


def job_with_results(server: Server, count: int) -> str:
    """The id of a job of so many items that have ended, a kilobyte of results each."""
    new = [NewItem(url=f"https://example.org/{number}", custom_id="c" * 900) for number in range(count)]
    with server.database.write() as session:
        job = jobs.submit(session, server.account_id, new, 64)
        session.execute(update(Item).values(state=ItemState.CANCELED, ended_at=job.created_at))
        return job.id


def test_clients_that_do_nothing_stop_nobody_else(server: Server) -> None:
    path = f"/v1/jobs/{job_with_results(server, 3000)}/results"
    body = server.head("POST", "/v1/jobs", **{"Content-Type": "application/jsonl", "Content-Length": "1000"}) + b"{"
    held = [server.connect(sent) for sent in (b"", b"GET /hea", body) for _ in range(4)]
    for _ in range(4):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", server.port))
        reader.sendall(server.head("GET", path))
        held.append(reader)
    assert server.get("/healthz").status_code == 200
    assert server.get("/readyz").status_code == 200
    assert server.jobs() == 1
    assert len(server.get(path).text.splitlines()) == 3000
    for connection in held:
        connection.close()


def test_one_accounts_slow_bodies_leave_threads_to_others(server: Server) -> None:
    with server.database.write() as session:
        other = accounts.create_key(session, accounts.create_account(session, "other").id)
    body = {"Content-Type": "application/jsonl", "Content-Length": "2000000"}
    slow = [server.connect(server.head("POST", "/v1/jobs", **body)) for _ in range(4)]
    served = threading.Event()

    def trickle() -> None:
        while not served.wait(0.1):
            for connection in slow:
                with suppress(OSError):  # it was refused
                    connection.sendall(b'{"url": "https://example.org"}\n' * 60)

    thread = threading.Thread(target=trickle)
    thread.start()
    answer = httpx.get(f"{server.url}/v1/jobs", headers={"Authorization": f"Bearer {other}"}, timeout=PATIENCE)
    refused = {connection for connection in slow if select.select([connection], [], [], 0)[0]}
    heads = [connection.recv(1000) for connection in refused]
    served.set()
    thread.join()
    assert answer.status_code == 200
    assert 1 <= len(refused) <= 3
    assert all(head.startswith(b"HTTP/1.1 429 ") and b"Retry-After: " in head for head in heads)
    for connection in slow:
        connection.close()


def test_requests_in_pieces_and_several_at_once_are_answered_one_by_one(server: Server) -> None:
    ask = server.head("GET", "/v1/jobs")
    with server.connect(ask + server.head("GET", "/healthz") + ask[:20]) as connection:
        answer = b""
        while answer.count(b"HTTP/1.1 200 OK") < 2 or not answer.endswith(b"}"):
            answer += connection.recv(65536)
        connection.sendall(ask[20:-2])
        connection.sendall(b"Connection: close\r\n\r\n")
        assert rest_of(connection).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414, b"uri_too_long"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431, b"headers_too_large"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, b"bad_request"),
    ],
)
def test_what_is_no_request_is_refused_as_a_problem(server: Server, request_: bytes, status: int, code: bytes) -> None:
    with server.connect(request_) as connection:
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: application/problem+json" in answer
    assert b'"code":"%s"' % code in answer
    for name, text in LOCKED_DOWN.items():
        assert f"\r\n{name}: {text}\r\n".encode() in answer


@pytest.mark.parametrize(("name", "setting"), [("SHIELD_REDIS_URL", ""), ("SHIELD_PORT", "many")])
def test_a_setting_that_does_not_fit_is_named_before_anything_starts(tmp_path: Path, name: str, setting: str) -> None:
    env = {"PATH": os.environ["PATH"], "SHIELD_HOME": str(tmp_path), "SHIELD_REDIS_URL": "redis://127.0.0.1:1"}
    run = subprocess.run(
        [sys.executable, "-m", "api"], cwd=ROOT, env=env | {name: setting}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert name in run.stderr
    assert "Traceback" not in run.stderr
