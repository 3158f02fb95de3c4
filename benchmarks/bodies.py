"""Servers that never come to an end, or lie: each takes a connection and does its worst until the other side leaves.

`serve` gives one an address; `BODIES` names them all.
"""

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

OK = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(16 * 1024 * 1024))  # 16 kB
FLOOD = 64 * 1024

Body = Callable[[socket.socket, threading.Event], None]


def _drip(head: bytes, seconds: float) -> Body:
    """A head, then a byte now and then."""

    def body(connection: socket.socket, left: threading.Event) -> None:
        connection.sendall(head)
        while not left.wait(seconds):
            connection.sendall(b"x")

    return body


def _flood(head: bytes, part: bytes) -> Body:
    """A head, then the same part over and over."""

    def body(connection: socket.socket, left: threading.Event) -> None:
        connection.sendall(head)
        while not left.is_set():
            connection.sendall(part)

    return body


def _send(answer: bytes) -> Body:
    """One answer, and the end."""
    return lambda connection, _: connection.sendall(answer)


def _wait(_: socket.socket, left: threading.Event) -> None:
    left.wait(60)


# What each of them does; those that end by themselves are lies.
BODIES: dict[str, Body] = {
    "says nothing": _wait,
    "a byte of head a second": _drip(OK + b"X-Slow: ", 1.0),
    "a byte of body a second": _drip(OK + b"Content-Length: 1000\r\n\r\n", 1.0),
    "a byte of body a millisecond": _drip(OK + b"\r\n", 0.001),
    "an endless line of head": _flood(OK + b"X-Endless: ", b"x" * FLOOD),
    "endless headers": _flood(OK, b"X-Endless: endless\r\n" * (FLOOD // 20)),
    "endless informational answers": _flood(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * (FLOOD // 40)),
    "an endless body": _flood(OK + b"\r\n", b"x" * FLOOD),
    "an endless body in chunks": _flood(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * FLOOD + b"\r\n"
    ),
    "tiny chunks with huge extensions": _flood(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * (FLOOD // 2) + b"\r\nx\r\n"
    ),
    "endless trailers": _flood(
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Endless: endless\r\n" * (FLOOD // 20)
    ),
    "a body longer than it says": _flood(OK + b"Content-Length: 999999999999\r\n\r\n", b"x" * FLOOD),
    "a body shorter than it says": _send(OK + b"Content-Length: 1000\r\n\r\nhalf"),
    "two lengths": _send(OK + b"Content-Length: 4\r\nContent-Length: 40\r\n\r\nhalf"),
    "a length that is no number": _send(OK + b"Content-Length: -1\r\n\r\nhalf"),
    "a gzip bomb": _send(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
    "a gzip bomb in transfer": _send(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n4000\r\n" + BOMB),
    "another protocol": _send(b"+PONG\r\n"),
    "nothing at all": lambda _, __: None,
}


@contextmanager
def serve(body: Body) -> Iterator[int]:
    """The port on 127.0.0.1 where every connection is answered like this, until the end of the block."""
    left = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(FLOOD)
            body(connection, left)

    def accept(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=server.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            left.set()
            server.shutdown(socket.SHUT_RDWR)
