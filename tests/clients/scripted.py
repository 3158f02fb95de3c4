"""A real HTTP server that answers as it is told, once for each request, and notes what it was asked."""

import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection


class Answer(NamedTuple):
    """What to answer; status 0 resets the connection once the request was read, -1 in the middle of the answer."""

    status: int
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


class Asked(NamedTuple):
    """What was asked."""

    method: str
    path: str
    body: bytes
    key: str | None
    once: str | None  # its idempotency key


def job(state: str = "queued") -> dict[str, Any]:
    return {"id": "job_1", "state": state, "counts": {"total": 1, "pending": 1}, "name": ""}


class Scripted:
    """Answers `answers` in turn, then 500."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                scripted.answer(self)

            def do_POST(self) -> None:
                scripted.answer(self)

            def do_DELETE(self) -> None:
                scripted.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        self.asked.append(
            Asked(
                asked.command,
                asked.path,
                body,
                asked.headers.get("Authorization"),
                asked.headers.get("Idempotency-Key"),
            )
        )
        answer = self.answers.pop(0) if self.answers else Answer(500)
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        if answer.status > 0 or answer.status == -1:
            asked.send_response(max(answer.status, 200))
            for name, text in answer.headers:
                asked.send_header(name, text)
            asked.send_header("Content-Length", str(len(content) + (1000 if answer.status == -1 else 0)))
            asked.end_headers()
            asked.wfile.write(content)
            asked.wfile.flush()
        if answer.status <= 0:
            asked.close_connection = True
            if answer.status == 0:
                asked.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
