"""Names, and a site on loopback. No test here leaves this machine."""

import socket
from collections.abc import Iterator
from typing import Any

import httpcore
import pytest

from benchmarks.vectors import PUBLIC
from tests.shield.egress.sites import Site


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names resolve to: for each a list of answers, the last of which stays. Nobody else is asked."""
    table: dict[str, list[list[str]]] = {"public.test": [[PUBLIC]], "localhost": [["127.0.0.1", "::1"]]}
    asked = socket.getaddrinfo

    def numbers(host: str, port: int) -> Any:
        return asked(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> Any:
        if host not in table:
            return numbers(host, port)
        answers = table[host].pop(0) if len(table[host]) > 1 else table[host][0]
        return [numbers(address, port)[0] for address in answers]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return table


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were connected to; each connection is refused."""
    seen: list[str] = []

    def connect_tcp(_: object, host: str, *args: object, **more: object) -> httpcore.NetworkStream:
        seen.append(host)
        raise httpcore.ConnectError("refused by the test")

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)
    return seen


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()
