"""Where webhooks go: verifies each signature, refuses one in ten, and notes the others."""

import json
import random
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from chaos.history import History

REFUSED = 0.1  # of the requests


class Receiver:
    """An HTTP server on loopback; the path says which client's webhook it is."""

    def __init__(self, history: History, seed: float) -> None:
        self._secrets: dict[str, str] = {}
        self._random = random.Random(seed)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver._receive(history, self.path.strip("/"), dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()

    def url(self, client: str) -> str:
        """Where this client's webhooks go."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{client}"

    def trust(self, client: str, secret: str) -> None:
        """Verify this client's webhooks by this secret from now on."""
        self._secrets[client] = secret

    def close(self) -> None:
        """Receive no more."""
        self._server.shutdown()
        self._server.server_close()

    def _receive(self, history: History, client: str, headers: dict[str, str], body: bytes) -> HTTPStatus:
        if self._random.random() < REFUSED:
            return HTTPStatus.SERVICE_UNAVAILABLE
        try:
            Webhook(self._secrets[client]).verify(body, {name.lower(): value for name, value in headers.items()})
        except (KeyError, WebhookVerificationError) as error:
            history.note(told="forged", client=client, why=repr(error))
            return HTTPStatus.UNAUTHORIZED
        said = json.loads(body)
        told = {"type": said["type"], "job": said["data"]["job_id"], "counts": said["data"]["counts"]}
        identity = next(value for name, value in headers.items() if name.lower() == "webhook-id")
        history.note(told="webhook", client=client, id=identity, **told)
        return HTTPStatus.NO_CONTENT
