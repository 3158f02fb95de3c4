"""`python -m api` as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shield import accounts
from shield.db import Database
from tests.api.conftest import PATIENCE, ROOT, RedisServer, wait_until


class Server:
    """A running API: its address, its key, its process."""

    def __init__(self, home: Path, redis_url: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        database = Database(f"sqlite:///{home / 'shield.db'}")
        with database.write() as session:
            self.key = accounts.create_key(session, accounts.create_account(session, "acme").id)
        database.close()
        env = {"PATH": os.environ["PATH"], "SHIELD_HOME": str(home), "SHIELD_PORT": str(self.port)}
        env |= {
            "SHIELD_REDIS_URL": redis_url,
            "SHIELD_MAX_IMAGE_BYTES": "100000",
            "SHIELD_MAX_REQUEST_BYTES": "2000000",
            "SHIELD_API_THREADS": "2",
        }
        self.process = subprocess.Popen([sys.executable, "-m", "api"], cwd=ROOT, env=env)
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def post(self, content: bytes, key: str) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/jobs", headers={"Authorization": f"Bearer {key}"}, files={"f": content})


@pytest.fixture
def server(url: str, tmp_path: Path, redis_server: RedisServer) -> Iterator[Server]:
    server = Server(tmp_path, redis_server.url)
    yield server
    server.process.kill()
    server.process.wait()


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


def test_clients_that_stop_in_mid_request_give_their_threads_back(server: Server) -> None:
    head = b"POST /session/x HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with (
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as half_a_line,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as half_a_body,
    ):
        half_a_line.sendall(b"GET /hea")
        half_a_body.sendall(head + b"Content-Length: 100\r\n\r\nx")
        assert httpx.get(f"{server.url}/healthz", timeout=PATIENCE).status_code == 200
        assert half_a_line.recv(1000) == b""
        assert half_a_body.recv(1000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(("name", "setting"), [("SHIELD_REDIS_URL", ""), ("SHIELD_PORT", "many")])
def test_a_setting_that_does_not_fit_is_named_before_anything_starts(tmp_path: Path, name: str, setting: str) -> None:
    env = {"PATH": os.environ["PATH"], "SHIELD_HOME": str(tmp_path), "SHIELD_REDIS_URL": "redis://127.0.0.1:1"}
    run = subprocess.run(
        [sys.executable, "-m", "api"], cwd=ROOT, env=env | {name: setting}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert name in run.stderr
    assert "Traceback" not in run.stderr
