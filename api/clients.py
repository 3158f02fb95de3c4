"""Clients: who waits for a thread, and the sockets of those that have one, which have to keep up with it."""

import math
import select
import socket
import threading
import time
from collections import Counter
from typing import Any

from gunicorn.workers.gthread import TConn

LEAST_RATE = 4096  # bytes a second that a client sends, or takes
BEHIND_SECONDS = 15.0  # that it may be behind this rate
CROWDED_SECONDS = 3.0  # the same while others wait for a thread
CROWD_SECONDS = 0.5  # somebody waits for a thread for so long: it is crowded. A client waited for so long is slow
SEND_BYTES = 256 * 1024  # of an answer that are made before its client takes any


class TooManySlow(TimeoutError):
    """An account has more slow clients than its part of the threads, and others wait for one."""


class Line:
    """The connections that wait for a thread, and with which key each of them asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[TConn, tuple[float, bytes]] = {}

    def join(self, conn: TConn, key: bytes) -> None:
        """It waits from now on."""
        with self._lock:
            self._since[conn] = time.monotonic(), key

    def leave(self, conn: TConn) -> None:
        """It has a thread."""
        with self._lock:
            self._since.pop(conn, None)

    def crowded(self, besides: bytes = b"") -> bool:
        """Whether there are too few threads at the moment, for others than who asks with this key."""
        now = time.monotonic()
        with self._lock:
            first = next((since for since, key in self._since.values() if not besides or key != besides), now)
        return now - first > CROWD_SECONDS


class SlowClients:
    """The slow clients that threads wait for, by account; of all who send no key together."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._count: Counter[str] = Counter()

    def add(self, account_id: str) -> None:
        """One more."""
        with self._lock:
            self._count[account_id] += 1

    def remove(self, account_id: str) -> None:
        """One less."""
        with self._lock:
            self._count[account_id] -= 1
            self._count += Counter()  # without those that have none

    def too_many(self, account_id: str) -> bool:
        """Whether an account has more than its part of the threads, where one part is left for somebody new."""
        with self._lock:
            return self._count[account_id] > max(self._threads // (len(self._count) + 1), 1)


class Client(socket.socket):
    """An accepted connection, whose other end has to keep up while a thread waits for it.

    The seconds that it is behind grow while it is waited for, and shrink with every byte; being early earns nothing.
    Our own time does not count. Where it is too far behind, what waits for it raises TimeoutError.

    `account_id` is set by who finds out whose request it is; empty where nobody does.
    """

    def __init__(self, accepted: socket.socket, line: Line, slow: SlowClients) -> None:
        super().__init__(fileno=accepted.detach())
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        self.account_id = ""
        self._line = line
        self._slow = slow
        self._key = b""
        self._behind = 0.0
        self._waited = 0.0  # seconds, in this request
        self._counted: str | None = None  # as a slow client of this account

    def begin(self, key: bytes) -> None:
        """A thread begins to serve it, and its request came with this key."""
        self.account_id, self._key = "", key
        self._behind = self._waited = 0.0

    def end(self) -> None:
        """No thread serves it any more."""
        if self._counted is not None:
            self._slow.remove(self._counted)
            self._counted = None

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
            self._waited += now - begun
            self._yield()
            allowed = CROWDED_SECONDS if self._line.crowded() else BEHIND_SECONDS
            if self._behind > allowed or (until is not None and now > until):
                self._behind = 0.0  # it is still told why
                raise TimeoutError("the client does not keep up")

    def _yield(self) -> None:
        """Give the thread to others that wait, where this account keeps too many of them waiting for its clients."""
        if self._counted is None and self._waited > CROWD_SECONDS:
            self._counted = self.account_id
            self._slow.add(self._counted)
        if self._counted is not None and self._slow.too_many(self._counted) and self._line.crowded(self._key):
            self.end()
            self._behind, self._waited = 0.0, -math.inf  # it is still told why
            raise TooManySlow("too many slow clients of one account")
