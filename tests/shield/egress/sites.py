"""A server on loopback whose answers a test gives, and the two ways to ask it."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shield import egress


def fetch(url: str, limit: int = 1000, seconds: float = 5.0, *, allow_loopback: bool = False) -> bytes:
    return egress.fetch(url, limit_bytes=limit, timeout_seconds=seconds, allow_loopback=allow_loopback)


def post(url: str, limit: int = 1000, seconds: float = 5.0, *, allow_loopback: bool = False) -> egress.Answer:
    headers = {"Content-Type": "application/json", "webhook-id": "msg_1"}
    return egress.post(url, b"{}", headers, limit_bytes=limit, timeout_seconds=seconds, allow_loopback=allow_loopback)


Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A server on loopback whose one answer a test gives, and the requests that it has seen."""

    def __init__(self) -> None:
        self.answer: Answer = plain(b"")
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((self.path, dict(self.headers)))
                site.answer(self)

            def do_POST(self) -> None:
                site.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.do_GET()

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def plain(body: bytes, code: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirecting(*targets: str) -> Answer:
    """Redirects along these targets, then answers."""
    rest = list(targets)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if rest:
            plain(b"", 302, Location=rest.pop(0), Content_Length="0")(handler)
        else:
            plain(b"pixels")(handler)

    return answer
