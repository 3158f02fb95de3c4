"""The proxy passes, swallows and resets."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.proxy import Proxy


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """Before a server that sends back what it is sent."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.listen()

    def echo(connection: socket.socket) -> None:
        with connection:
            while content := connection.recv(100):
                connection.sendall(content)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    made = Proxy(tmp_path / "s")
    made.start()
    yield made
    made.stop()
    server.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def test_what_is_swallowed_arrives_once_it_is_let_through(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"one")
        assert client.recv(100) == b"one"
        proxy.swallow()
        client.sendall(b"two")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(100)
        client.settimeout(10)
        proxy.let_through()
        assert client.recv(100) == b"two"


def test_a_reset_ends_every_connection_and_new_ones_are_served(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"one")
        assert client.recv(100) == b"one"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with connect(proxy) as client:
        client.sendall(b"two")
        assert client.recv(100) == b"two"


def test_a_server_that_is_away_resets_its_clients(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path / "nobody")
    proxy.start()
    with pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(100)
    proxy.stop()
