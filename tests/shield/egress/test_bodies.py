"""Servers that never come to an end, or lie, do not hold a request."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.bodies import BODIES, serve
from shield import egress
from shield.blobs import TooLarge
from shield.errors import FetchFailed
from tests.shield.egress.sites import fetch, post

LIMIT = 1000
LATE = r"timed out after 0\.5 s"
HEAD = "larger than its head and body may be"
BROKEN = "the connection failed"

ENDS = {  # what fetch and post end with; None is an answer
    "says nothing": (LATE, LATE),
    "a byte of head a second": (LATE, LATE),
    "a byte of body a second": (LATE, None),  # the head of an answer is an answer
    "a byte of body a millisecond": (LATE, None),
    "an endless line of head": (HEAD, HEAD),
    "endless headers": (HEAD, HEAD),
    "endless informational answers": (HEAD, HEAD),
    "an endless body": (TooLarge, None),
    "an endless body in chunks": (TooLarge, None),
    "tiny chunks with huge extensions": (HEAD, None),
    "endless trailers": (HEAD, None),
    "a body longer than it says": (TooLarge, None),
    "a body shorter than it says": (BROKEN, None),
    "two lengths": (BROKEN, BROKEN),
    "a length that is no number": (BROKEN, BROKEN),
    "a gzip bomb": ("compressed", None),
    "a gzip bomb in transfer": (BROKEN, BROKEN),
    "another protocol": (BROKEN, BROKEN),
    "nothing at all": (BROKEN, BROKEN),
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all that was read."""
    sizes: list[int] = []
    inner = egress._Stream.read

    def counted(*given: Any, **more: Any) -> bytes:
        part = inner(*given, **more)
        sizes.append(len(part))
        return part

    monkeypatch.setattr(egress._Stream, "read", counted)
    return sizes


def test_every_server_has_an_end_to_expect() -> None:
    assert list(ENDS) == list(BODIES)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("send", [fetch, post])
def test_no_server_holds_a_request(name: str, send: Callable[..., object], read: list[int]) -> None:
    end = ENDS[name][0 if send is fetch else 1]
    with serve(BODIES[name]) as port:
        url = f"http://127.0.0.1:{port}/"
        if end is None:
            assert send(url, LIMIT, 0.5, allow_loopback=True)
        elif end is TooLarge:
            with pytest.raises(TooLarge):
                send(url, LIMIT, 0.5, allow_loopback=True)
        else:
            with pytest.raises(FetchFailed, match=str(end)):
                send(url, LIMIT, 0.5, allow_loopback=True)
    assert sum(read) <= LIMIT + 64 * 1024
