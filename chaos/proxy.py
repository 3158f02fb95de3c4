"""A TCP proxy of our own between the programs and Redis: it passes, swallows everything, or resets every connection."""

import contextlib
import selectors
import socket
import struct
import threading
from pathlib import Path

BYTES = 65536


class Proxy:
    """Listens on a port of loopback, in front of a Unix socket. One thread; the kernel's buffers are its only ones."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._open = threading.Event()  # cleared: a black hole
        self._open.set()
        self._wanted = threading.Lock()
        self._cut = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        """Begin to pass."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()

    def swallow(self) -> None:
        """From now on nothing arrives anywhere, and no connection is told."""
        self._open.clear()

    def let_through(self) -> None:
        """Pass again, and what was swallowed first."""
        self._open.set()

    def reset(self) -> None:
        """Reset every connection that is open."""
        with self._wanted:
            self._cut = True

    def stop(self) -> None:
        """End."""
        self._ended = True
        self._open.set()
        self._thread.join()
        self._drop_all()
        self._listener.close()

    def _run(self) -> None:
        while not self._ended:
            self._open.wait()
            with self._wanted:
                cut, self._cut = self._cut, False
            if cut:
                self._drop_all()
            for key, _ in self._selector.select(0.05):
                if not self._open.is_set():
                    break
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._pass(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._target))
        except OSError:
            _reset(client)
            server.close()
            return
        for one, other in ((client, server), (server, client)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, source: socket.socket) -> None:
        target = self._peers.get(source)
        if target is None:
            return  # its peer was dropped a moment ago
        try:
            content = source.recv(BYTES)
            if content:
                target.sendall(content)
                return
        except OSError:
            pass
        self._drop(source)

    def _drop(self, one: socket.socket) -> None:
        other = self._peers.pop(one, None)
        for each in filter(None, (one, other)):
            self._peers.pop(each, None)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(each)
            _reset(each)

    def _drop_all(self) -> None:
        for one in list(self._peers):
            if one in self._peers:
                self._drop(one)


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
