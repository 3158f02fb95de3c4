"""One stack for all flow tests, with short leases and small limits, and a web server for it to fetch from."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deepfake_shield import Shield
from tests.flow.stack import ROOT, Stack

FETCH_SECONDS = 2
LIMIT = 2 * 1024 * 1024  # bytes of one image
SAMPLES = ROOT / "samples"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("stack") / "home",
        SHIELD_LEASE_SECONDS="4",
        SHIELD_SWEEP_SECONDS="0.5",
        SHIELD_CHUNK_ITEMS="4",
        SHIELD_BATCH_IMAGES="4",
        SHIELD_FETCH_TIMEOUT_SECONDS=str(FETCH_SECONDS),
        SHIELD_MAX_IMAGE_BYTES=str(LIMIT),
        SHIELD_EGRESS_ALLOW_LOOPBACK="true",
    )
    try:
        yield stack.until_ready()
    finally:
        code = stack.stop()
    assert code == 0


@pytest.fixture
def shield(stack: Stack) -> Iterator[Shield]:
    with Shield(stack.url, stack.key) as shield:
        yield shield


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        match self.path:
            case "/good.jpg":
                self._send(200, (SAMPLES / "originals" / "collins.jpg").read_bytes())
            case "/slow.jpg":
                self.send_response(200)
                self.end_headers()
                time.sleep(3 * FETCH_SECONDS)
            case "/huge.jpg":
                self._send(200, bytes(LIMIT + 1))
            case "/moved.jpg":
                self.send_response(302)
                self.send_header("Location", "/good.jpg")
                self.end_headers()
            case "/inside.jpg":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/latest")
                self.end_headers()
            case _:
                self._send(404, b"no such picture")

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            self.wfile.write(content)
        except OSError:  # who asked has read enough
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    """The URL of a server with good pictures and bad answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def samples() -> list[Path]:
    """Every sample photo."""
    found = sorted(SAMPLES.rglob("*.jpg"))
    assert len(found) == 16
    return found
