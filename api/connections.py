"""gunicorn's threads, kept for requests that have arrived and for clients that keep up.

gunicorn gives every connection a thread at once and waits there for ever, so a few idle clients stop an API. Here the
head of a request is gathered without a thread, what comes after it has to come (and the answer to be taken) at a least
rate, /healthz and /readyz have threads that nothing else takes, and one account's slow clients leave some to others.
"""

import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from selectors import EVENT_READ
from typing import Any, cast

from gunicorn.http.errors import ConfigurationProblem, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from api.clients import Client, Line, SlowClients
from api.errors import CODES
from api.problems import LOCKED_DOWN, PROBLEM_MEDIA_TYPE, Problem

HEAD_SECONDS = 10.0  # for a request line and headers
HEAD_BYTES = 64 * 1024  # then a thread reads on
HEAD_END = b"\r\n\r\n"
LINGER_SECONDS = 2.0  # for a client to take an answer that came before its body was read
PROBES = (b"GET /healthz ", b"GET /readyz ")
PROBE_THREADS = 2
BODY_HEADERS = (b"\ncontent-length:", b"\ntransfer-encoding:")
KEY = re.compile(rb"\nauthorization:([^\r\n]*)", re.IGNORECASE)


class Connection(TConn):
    """A connection, and what has come of the head of its next request."""

    sock: Client

    def __init__(self, worker: "Worker", client: Client, address: Any, server: Any) -> None:
        super().__init__(worker.cfg, client, address, server)
        self._worker = worker
        self.parser: Any = None  # gunicorn's, of this connection's requests
        self.head = bytearray()
        self.key = b""  # with which its request came

    def add(self, data: bytes) -> bool:
        """Whether the head is complete with these bytes, or too long to be waited for."""
        fresh = max(len(self.head) - len(HEAD_END) + 1, 0)
        self.head += data
        return self.head.find(HEAD_END, fresh) >= 0 or len(self.head) >= HEAD_BYTES

    def asks_for_a_probe(self) -> bool:
        """Whether it is /healthz or /readyz, without a body for which a thread would have to wait."""
        return self.head.startswith(PROBES) and not any(name in self.head.lower() for name in BODY_HEADERS)

    def hand_over(self) -> None:
        """Let gunicorn's parser begin with what has come."""
        self.init()
        found = KEY.search(self.head)
        self.key = found[1].strip() if found else b""
        self.parser.unreader.unread(bytes(self.head))
        self.head.clear()

    def close(self, graceful: bool = False) -> None:
        """Without gunicorn's graceful way, which waits on the main thread: everybody would wait with it."""
        if graceful:
            self._worker.linger(self)
        else:
            super().close()


class Worker(ThreadWorker):
    """gunicorn's worker, with the main thread holding every connection that needs no thread."""

    def init_process(self) -> None:
        """Called by gunicorn; serves until the end."""
        self._line = Line()
        self._slow = SlowClients(self.cfg.threads)
        self._probes = ThreadPoolExecutor(PROBE_THREADS, "probe")
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Hold a new connection until it has a request."""
        try:
            accepted, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        client = Client(accepted, self._line, self._slow)
        self.nr_conns += 1
        self.enqueue_req(Connection(self, client, address, listener.getsockname()))

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection a thread once the head of its next request is there."""
        conn = cast("Connection", conn)
        if conn.add(conn.parser.unreader.take_buffered() if conn.parser else b""):
            self._serve(conn)
        else:
            self._watch(conn, HEAD_SECONDS, self._gather)

    def _gather(self, conn: Connection) -> None:
        try:
            data = conn.sock.recv(HEAD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(conn)
        elif conn.add(data):
            self._leave(conn)
            self._serve(conn)

    def _serve(self, conn: Connection) -> None:
        pool = self._probes if conn.asks_for_a_probe() else self.tpool
        conn.hand_over()
        if pool is self.tpool:
            self._line.join(conn, conn.key)
        served = pool.submit(self.handle, conn)
        served.add_done_callback(lambda future: self.method_queue.defer(self.finish_request, conn, future))

    def handle(self, conn: TConn) -> bool:
        """Serve a connection's next request, on one of the threads."""
        self._line.leave(conn)
        conn = cast("Connection", conn)
        conn.sock.begin(conn.key)
        try:
            return super().handle(conn)
        finally:
            conn.sock.end()

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Whether the connection is used again: not where the rest of a body that nobody read is malformed."""
        try:
            return bool(super()._keepalive_after(conn, keepalive))  # type: ignore[misc]
        except ParseException:
            return False

    def linger(self, conn: Connection) -> None:
        """Close it once its other end has, or soon: at once, an answer might be lost with a body that nobody read."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            conn.close()
            return
        self.nr_conns += 1
        self._watch(conn, LINGER_SECONDS, self._discard)

    def _discard(self, conn: Connection) -> None:
        try:
            more = conn.sock.recv(HEAD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self._drop(conn)

    def _watch(self, conn: Connection, seconds: float, readable: Callable[[Connection], None]) -> None:
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + seconds
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, lambda _: readable(conn))

    def _leave(self, conn: Connection) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)

    def _drop(self, conn: Connection) -> None:
        self._leave(conn)
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """Called by gunicorn every second: drop what was waited for too long."""
        now = time.monotonic()
        for conn in [conn for conn in self.pending_conns if (conn.timeout or 0.0) <= now]:
            self._drop(cast("Connection", conn))

    def _cap_keepalive(self, deadline: float) -> None:
        """Called by gunicorn in a worker that stops: wait no longer than this for what is idle."""
        super()._cap_keepalive(deadline)  # type: ignore[misc]
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout or 0.0, deadline)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that cannot be parsed, or that failed outside of the app, with a problem document."""
        del req, addr  # the path may hold a link, and stands in no log
        if isinstance(exc, ParseException) and not isinstance(exc, ConfigurationProblem):
            self.log.warning("a request was refused: %s", type(exc).__name__)
            answer = refusal(exc)
        else:
            self.log.error("a request failed", exc_info=exc)
            answer = _whole(Problem.of_a_bug())
        try:
            client.sendall(answer)
        except OSError as error:
            self.log.debug("the answer was not taken: %s", error)


def refusal(error: ParseException) -> bytes:
    """The whole answer to a request that cannot be parsed."""
    status = HTTPStatus.BAD_REQUEST
    if isinstance(error, LimitRequestLine):
        status = HTTPStatus.REQUEST_URI_TOO_LONG
    elif isinstance(error, LimitRequestHeaders):
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return _whole(Problem(title=status.phrase, status=status, code=CODES[status], detail=str(error)))


def _whole(problem: Problem) -> bytes:
    """An answer that does not come from the app, locked down as those that do."""
    content = problem.model_dump_json(exclude_none=True).encode()
    headers = {"Connection": "close", "Content-Type": PROBLEM_MEDIA_TYPE, "Content-Length": len(content), **LOCKED_DOWN}
    lines = [f"HTTP/1.1 {problem.status} {problem.title}", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join(lines).encode() + HEAD_END + content
