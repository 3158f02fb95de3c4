"""gunicorn's threads, kept for requests that have arrived and for clients that keep up.

gunicorn gives every connection a thread at once and waits there for ever, so a few idle clients stop an API. Here the
head of a request is gathered without a thread, what comes after it has to come (and the answer to be taken) at a least
rate, and /healthz and /readyz have threads that nothing else takes.
"""

import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from selectors import EVENT_READ
from typing import Any, cast

from gunicorn.http.errors import ConfigurationProblem, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from api.errors import CODES
from api.problems import PROBLEM_MEDIA_TYPE, Problem

HEAD_SECONDS = 10.0  # for a request line and headers
HEAD_BYTES = 64 * 1024  # then a thread reads on
HEAD_END = b"\r\n\r\n"
LEAST_RATE = 4096  # bytes a second that a client sends, or takes
BEHIND_SECONDS = 15.0  # that it may be behind this rate
CROWDED_SECONDS = 3.0  # the same while others wait for a thread
CROWD_SECONDS = 0.5  # somebody waits for a thread for so long: it is crowded
SEND_BYTES = 256 * 1024  # of an answer that are made before its client takes any
LINGER_SECONDS = 2.0  # for a client to take an answer that came before its body was read
PROBES = (b"GET /healthz ", b"GET /readyz ")
PROBE_THREADS = 2
BODY_HEADERS = (b"\ncontent-length:", b"\ntransfer-encoding:")


class Line:
    """The connections that wait for a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[TConn, float] = {}

    def join(self, conn: TConn) -> None:
        """It waits from now on."""
        with self._lock:
            self._since[conn] = time.monotonic()

    def leave(self, conn: TConn) -> None:
        """It has a thread."""
        with self._lock:
            self._since.pop(conn, None)

    def crowded(self) -> bool:
        """Whether there are too few threads at the moment."""
        now = time.monotonic()
        with self._lock:
            return now - next(iter(self._since.values()), now) > CROWD_SECONDS


class Client(socket.socket):
    """An accepted connection, whose other end has to keep up while a thread waits for it.

    The seconds that it is behind grow while it is waited for, and shrink with every byte; being early earns nothing.
    Our own time does not count. Where it is too far behind, what waits for it raises TimeoutError.
    """

    def __init__(self, accepted: socket.socket, crowded: Callable[[], bool]) -> None:
        super().__init__(fileno=accepted.detach())
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        self._crowded = crowded
        self._behind = 0.0

    def begin(self) -> None:
        """A thread begins to serve it."""
        self._behind = 0.0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As a socket does."""
        self._wait(select.POLLIN)
        data = super().recv(size, flags)
        self._behind = max(self._behind - len(data) / LEAST_RATE, 0.0)
        return data

    def send(self, data: Any, flags: int = 0, /) -> int:
        """As a socket does, and never more than fits at once."""
        self._wait(select.POLLOUT)
        sent = super().send(data, flags | socket.MSG_DONTWAIT)
        self._behind = max(self._behind - sent / LEAST_RATE, 0.0)
        return sent

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As a socket does."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.send(rest, flags) :]

    def _wait(self, event: int) -> None:
        limit = self.gettimeout()
        if limit == 0:
            return  # the main thread never waits
        ready = select.poll()
        ready.register(self, event)
        until = None if limit is None else time.monotonic() + limit
        came = False
        while not came:
            begun = time.monotonic()
            came = bool(ready.poll(CROWD_SECONDS * 1000))
            now = time.monotonic()
            self._behind += now - begun
            allowed = CROWDED_SECONDS if self._crowded() else BEHIND_SECONDS
            if self._behind > allowed or (until is not None and now > until):
                self._behind = 0.0  # it is still told why
                raise TimeoutError("the client does not keep up")


class Connection(TConn):
    """A connection, and what has come of the head of its next request."""

    sock: Client

    def __init__(self, worker: "Worker", client: Client, address: Any, server: Any) -> None:
        super().__init__(worker.cfg, client, address, server)
        self._worker = worker
        self.parser: Any = None  # gunicorn's, of this connection's requests
        self.head = bytearray()

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
        self._probes = ThreadPoolExecutor(PROBE_THREADS, "probe")
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Hold a new connection until it has a request."""
        try:
            accepted, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        client = Client(accepted, self._line.crowded)
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
        if pool is self.tpool:
            self._line.join(conn)
        conn.hand_over()
        served = pool.submit(self.handle, conn)
        served.add_done_callback(lambda future: self.method_queue.defer(self.finish_request, conn, future))

    def handle(self, conn: TConn) -> bool:
        """Serve a connection's next request, on one of the threads."""
        self._line.leave(conn)
        cast("Connection", conn).sock.begin()
        return super().handle(conn)

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
        """Answer a request that cannot be parsed with a problem document, as all others are."""
        if not isinstance(exc, ParseException) or isinstance(exc, ConfigurationProblem):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("a request was refused: %s", type(exc).__name__)  # not its text, which may hold a link
        try:
            client.sendall(refusal(exc))
        except OSError as error:
            self.log.debug("the refusal was not taken: %s", error)


def refusal(error: ParseException) -> bytes:
    """The whole answer to a request that cannot be parsed."""
    status = HTTPStatus.BAD_REQUEST
    if isinstance(error, LimitRequestLine):
        status = HTTPStatus.REQUEST_URI_TOO_LONG
    elif isinstance(error, LimitRequestHeaders):
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    problem = Problem(title=status.phrase, status=status, code=CODES[status], detail=str(error))
    content = problem.model_dump_json(exclude_none=True).encode()
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Type: {PROBLEM_MEDIA_TYPE}\r\n"
        f"Content-Length: {len(content)}{HEAD_END.decode()}"
    )
    return head.encode() + content
