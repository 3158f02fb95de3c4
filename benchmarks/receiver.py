"""A receiver of webhooks on loopback, as a customer runs one: a real server that answers as it is told."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Got:
    """One request that arrived, whole."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float  # time.monotonic

    @property
    def id(self) -> str:
        """The webhook-id: that of the event."""
        return self.headers["webhook-id"]


@dataclass(frozen=True)
class Reply:
    """What it answers: a status, headers and a body; or, once it has read the request, a reset, or silence."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang_seconds: float = 0.0
    reset: bool = False


OK = Reply()


class Receiver:
    """`reply` says what to answer to what arrived."""

    def __init__(self, reply: Callable[[Got], Reply] = lambda _: OK) -> None:
        self.reply = reply
        self.got: list[Got] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.closing = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_: object) -> None:
                pass  # the other side hung up on a request that hangs

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Serve one request, on a thread of its own."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            length = int(handler.headers["content-length"])
            body = handler.rfile.read(length)
            if len(body) < length:
                return  # the other side gave up before it had sent everything
            got = Got(handler.path, _lower(handler.headers), body, time.monotonic())
            reply = self.reply(got)
            self.got.append(got)
            self._send(handler, reply)
        finally:
            with self._lock:
                self._at_once -= 1

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.close_connection = True
        self.closing.wait(reply.hang_seconds)
        if reply.reset:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            return
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.body)

    def close(self) -> None:
        """Listen no more; requests that hang are answered."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@contextmanager
def receiving(reply: Callable[[Got], Reply] = lambda _: OK) -> Iterator[Receiver]:
    """A receiver that is closed afterwards."""
    receiver = Receiver(reply)
    try:
        yield receiver
    finally:
        receiver.close()
