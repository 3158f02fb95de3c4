"""`python -m api` as a process of its own, and raw connections to it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from shield import accounts
from shield.db import Database
from tests.api.conftest import PATIENCE, ROOT, wait_until


class Server:
    """A running API: its address, its account and key, its process, its log."""

    def __init__(self, home: Path, redis_url: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = Database(f"sqlite:///{home / 'shield.db'}")
        with self.database.write() as session:
            self.account_id = accounts.create_account(session, "acme").id
            self.key = accounts.create_key(session, self.account_id)
        self.bearer = {"Authorization": f"Bearer {self.key}"}
        self.log = home / "api.log"
        env = {"PATH": os.environ["PATH"], "SHIELD_HOME": str(home), "SHIELD_PORT": str(self.port)}
        env |= {
            "SHIELD_REDIS_URL": redis_url,
            "SHIELD_MAX_IMAGE_BYTES": "100000",
            "SHIELD_MAX_REQUEST_BYTES": "2000000",
            "SHIELD_API_THREADS": "2",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "api"], cwd=ROOT, env=env, stderr=log)
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.database.close()

    def post(self, content: bytes, key: str) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/jobs", headers={"Authorization": f"Bearer {key}"}, files={"f": content})

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=self.bearer, timeout=PATIENCE)

    def jobs(self) -> int:
        """How many there are."""
        return len(self.get("/v1/jobs").json()["data"])

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A connection on which these bytes were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        connection.sendall(sent)
        return connection

    def head(self, method: str, path: str, **headers: str) -> bytes:
        """The head of a request with our key."""
        lines = [f"{name}: {text}" for name, text in (self.bearer | headers).items()]
        return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: h", *lines, "", ""]).encode()


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the other end closes."""
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer
