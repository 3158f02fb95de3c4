"""A receiver of webhooks on this machine, for people who integrate: it verifies each delivery and prints it."""

import json
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from deepfake_shield.errors import CannotListen, NotVerified
from deepfake_shield.webhooks import key_of, verify

MAX_BODY = 1024 * 1024  # bytes; deliveries are below 20 kB
REMEMBERED = 1000  # ids of deliveries, to tell the one that comes again
NO_CONTENT, BAD_REQUEST, LENGTH_REQUIRED, TOO_LARGE = 204, 400, 411, 413


class Receiver(ThreadingHTTPServer):
    """Listens on 127.0.0.1; port 0 takes any that is free. Gives `write` the lines that tell of each delivery.

    Without a secret nothing is verified. Raises CannotListen when the port is taken, NotConfigured for a secret that
    is none.
    """

    daemon_threads = True

    def __init__(self, port: int, secret: str | None, write: Callable[[str], None]) -> None:
        if secret is not None:
            key_of(secret)
        try:
            super().__init__(("127.0.0.1", port), _Delivery)
        except OSError as error:
            raise CannotListen(f"cannot listen on port {port}: {error.strerror}; choose another with --port") from error
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self._secret = secret
        self._write = write
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        self._lock = Lock()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Tell of one delivery; the HTTP status to answer with."""
        status, outcome = NO_CONTENT, "not checked: no secret was given"
        try:
            if self._secret is not None:
                verify(self._secret, headers, body)
                outcome = "verified"
        except NotVerified as error:
            status, outcome = BAD_REQUEST, f"NOT VERIFIED: {error}"
        with self._lock:
            name = headers.get("webhook-id", "")
            if status == NO_CONTENT and name in self._seen:
                outcome += ", delivered again: act on each webhook-id once"
            elif status == NO_CONTENT and name:
                self._seen.append(name)
            self._write(f"{time.strftime('%H:%M:%S')}  {_plain(name) or 'no webhook-id'}  {outcome}\n{_shown(body)}")
        return status


class _Delivery(BaseHTTPRequestHandler):
    server: Receiver
    timeout = 10.0  # seconds that a sender may be silent

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.send_error(LENGTH_REQUIRED)
        elif int(length) > MAX_BODY:
            self.send_error(TOO_LARGE)
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(self.server.take(headers, self.rfile.read(int(length))))
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """The receiver tells of deliveries itself."""


def _shown(body: bytes) -> str:
    """A body for a terminal, indented. Anybody can send one, so that nothing in it may steer the terminal."""
    try:
        text = json.dumps(json.loads(body), indent=2)
    except (ValueError, RecursionError):
        text = _plain(body.decode("utf-8", "replace"))
    return "\n".join(f"    {line}" for line in text.splitlines())


def _plain(text: str) -> str:
    return ascii(text)[1:-1]
