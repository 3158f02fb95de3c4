"""Tries to lead a request to this machine: `python -m benchmarks.ssrf` (`make ssrf`).

A canary listens on 127.0.0.1 and ::1, on the one port that requests may go to here, so that nothing but the rules on
addresses keeps them away. Against it: every vector, fetched and posted to; a name whose addresses change between
look-ups, a thousand times; and servers that never come to an end, which must not hold a request. Two things stand in
for the internet: what names resolve to, and one public site, which is a server on another port of this machine.
"""

import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

import httpcore

from benchmarks.bodies import BODIES, serve
from benchmarks.vectors import PUBLIC, Vector, vectors
from shield import addresses, egress
from shield.errors import ShieldError
from training.bars import Bar

ROUNDS = 1000
LIMIT_BYTES = 100_000
TIMEOUT_SECONDS = 2.0


class Canary:
    """Counts the connections that reach this machine, on one port of 127.0.0.1 and of ::1."""

    def __init__(self) -> None:
        self.connections = 0
        self._counting = threading.Lock()
        first = socket.create_server(("127.0.0.1", 0))
        self.port: int = first.getsockname()[1]
        self._listeners = [first]
        with suppress(OSError):  # a machine without IPv6 has nothing to reach there
            self._listeners.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        for listener in self._listeners:
            threading.Thread(target=self._count, args=(listener,), daemon=True).start()

    def _count(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with self._counting:
                    self.connections += 1
                connection.close()  # only now: `seen` takes it for a sign that this one is counted

    def seen(self) -> int:
        """Connections so far. Asks each listener with one of our own, which comes after all others, and forgets it."""
        for listener in self._listeners:
            with socket.create_connection(listener.getsockname()[:2]) as own:
                own.recv(1)
            with self._counting:
                self.connections -= 1
        return self.connections


class Resolver:
    """What names resolve to: for each a list of answers, the last of which stays. Numbers stand for themselves."""

    def __init__(self) -> None:
        self.names: dict[str, list[tuple[str, ...]]] = {}
        self._asked = socket.getaddrinfo

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        """Like socket.getaddrinfo, without asking anybody."""
        if host not in self.names:
            return self._asked(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        answers = self.names[host].pop(0) if len(self.names[host]) > 1 else self.names[host][0]
        return [self._asked(each, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0] for each in answers]


class Site(BaseHTTPRequestHandler):
    """The public site: its path says where it redirects to; without one it shows a picture."""

    canary = 0

    def do_GET(self) -> None:
        """Redirect, or show."""
        name = self.path.strip("/")
        self.send_response(302 if name else 200)
        if name:
            path = "again.test" if name == "again.test" else ""
            self.send_header("Location", f"http://{name}:{self.canary}/{path}")
        self.end_headers()
        self.wfile.write(b"" if name else b"pixels")

    def do_POST(self) -> None:
        """As to a GET."""
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Outside(httpcore.NetworkStream):
    """A connection to the public site, under its public address."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self.read, self.write, self.close = stream.read, stream.write, stream.close  # type: ignore[method-assign]

    def get_extra_info(self, info: str) -> Any:
        """What the socket says, but for the address."""
        return (PUBLIC, 80) if info == "server_addr" else self._stream.get_extra_info(info)


@contextmanager
def internet(canary: Canary, resolver: Resolver) -> Iterator[None]:
    """Names resolve to what the resolver says, PUBLIC is the site, and any other address is really connected to."""
    site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    Site.canary = canary.port
    threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True).start()
    connect = httpcore.SyncBackend.connect_tcp

    def connect_tcp(backend: httpcore.SyncBackend, host: str, port: int, timeout: float) -> httpcore.NetworkStream:
        if host == PUBLIC:
            return Outside(connect(backend, "127.0.0.1", site.server_port, timeout))
        return connect(backend, host, port, timeout)

    with ExitStack() as stack:
        stack.callback(site.server_close)
        stack.callback(site.shutdown)
        stack.enter_context(patch.object(socket, "getaddrinfo", resolver.getaddrinfo))
        stack.enter_context(patch.object(httpcore.SyncBackend, "connect_tcp", connect_tcp))
        stack.enter_context(patch.dict(addresses.PORTS, http=canary.port, https=canary.port))
        yield


def fetch(url: str) -> None:
    """Fetch as a worker does."""
    egress.fetch(url, limit_bytes=LIMIT_BYTES, timeout_seconds=TIMEOUT_SECONDS)


def post(url: str) -> None:
    """Post as a webhook is delivered."""
    egress.post(url, b"{}", {}, timeout_seconds=TIMEOUT_SECONDS, limit_bytes=LIMIT_BYTES, allow_loopback=False)


def outcome(send: Callable[[str], None], url: str) -> str:
    """`refused` is a typed error, `answered` comes from outside, anything else is a bug and named."""
    try:
        send(url)
    except ShieldError:
        return "refused"
    except Exception as error:  # noqa: BLE001 a bug is what is looked for
        return f"{type(error).__name__} for {url!r}"
    return "answered"


def try_vectors(canary: Canary, resolver: Resolver) -> Counter[str]:
    """Fetch and post to every vector; how many there were, and how each request ended."""
    counts: Counter[str] = Counter()
    for vector in vectors(canary.port):
        resolver.names = names(vector)
        counts["vectors"] += 1
        counts.update((outcome(fetch, vector.url), outcome(post, vector.url)))
    return counts


def names(vector: Vector) -> dict[str, list[tuple[str, ...]]]:
    """What names resolve to while this vector is tried."""
    return {"public.test": [(PUBLIC,)], "localhost": [("127.0.0.1",)], "attack.test": [vector.answers]}


def try_rebinding(canary: Canary, resolver: Resolver, rounds: int) -> Counter[str]:
    """A name that is public at first and ours later, or both at once; how each request ended."""
    counts: Counter[str] = Counter()
    draw = random.Random(6)
    public, ours, ours_too = (PUBLIC,), ("127.0.0.1",), ("::1",)
    drawn = [public, ours, ours_too, (PUBLIC, "127.0.0.1"), ("::ffff:127.0.0.1", PUBLIC)]
    plans: list[Callable[[], tuple[list[tuple[str, ...]], str]]] = [
        lambda: ([public, ours], ""),  # looked up once, so that the second answer is never asked for
        lambda: ([public, ours], "again.test"),  # redirects to itself, and is looked up again
        lambda: ([public, ours_too], "again.test"),
        lambda: ([public, public, (PUBLIC, "127.0.0.1")], "again.test"),
        lambda: ([(PUBLIC, "127.0.0.1")], ""),
        lambda: ([("::1", PUBLIC)], ""),
        lambda: ([public], "127.0.0.1"),  # redirects to us by number
        lambda: ([public], "[::1]"),
        lambda: (draw.choices(drawn, k=5), "again.test"),
    ]
    for turn in range(rounds):
        answers, path = plans[turn % len(plans)]()
        for send in (fetch, post):
            resolver.names = {"again.test": list(answers)}
            counts[outcome(send, f"http://again.test:{canary.port}/{path}")] += 1
    return counts


def control(canary: Canary, resolver: Resolver) -> int:
    """What the canary sees of a client that checks a name and then looks it up once more; it must see something."""
    resolver.names = {"again.test": [(PUBLIC,), ("127.0.0.1",)]}
    addresses.resolve("again.test", canary.port, seconds=1.0, allow_loopback=False)
    socket.create_connection(("again.test", canary.port)).close()
    return canary.seen()


def try_bodies() -> tuple[float, int]:
    """Send to every server that never comes to an end: the longest overrun in seconds, the most bytes over the cap."""
    read = egress._Stream.read  # noqa: SLF001 counted below all that could miscount
    longest, most, total = 0.0, 0, 0

    def counted(stream: Any, *given: Any, **more: Any) -> bytes:
        nonlocal total
        part = read(stream, *given, **more)
        total += len(part)
        return part

    limits = {"timeout_seconds": TIMEOUT_SECONDS, "limit_bytes": LIMIT_BYTES, "allow_loopback": True}
    with patch.object(egress._Stream, "read", counted):  # noqa: SLF001
        for name, body in BODIES.items():
            for send in (egress.fetch, lambda url, **more: egress.post(url, b"{}", {}, **more)):
                with serve(body) as port:
                    total, began = 0, time.monotonic()
                    ended = outcome(lambda url, send=send: send(url, **limits), f"http://127.0.0.1:{port}/")  # type: ignore[misc]
                    seconds = time.monotonic() - began
                longest, most = max(longest, seconds - TIMEOUT_SECONDS), max(most, total - LIMIT_BYTES)
                print(f"  {name:32} {ended:9} after {seconds:5.2f} s, {total:7,} bytes")
    return longest, most


def main() -> int:
    """Try everything, print what was seen and the bars; 1 when one falls short."""
    canary, resolver = Canary(), Resolver()
    with internet(canary, resolver):
        reached = control(canary, resolver)
        before = canary.seen()
        tried = try_vectors(canary, resolver)
        rebound = try_rebinding(canary, resolver, ROUNDS)
        seen = canary.seen() - before
    ends = tried + rebound
    print(f"control: a client that looks up twice reached the canary {reached} time(s)")
    print(
        f"{tried['vectors']} vectors, fetched and posted to: {tried['refused']} refused, {tried['answered']} answered"
    )
    print(f"{ROUNDS} rebinding rounds: {rebound['refused']} refused, {rebound['answered']} answered by the public site")
    for bug in ends.keys() - {"vectors", "refused", "answered"}:
        print(f"  not a typed error: {bug}")
    print(f"servers that never end, with {TIMEOUT_SECONDS:g} s and {LIMIT_BYTES:,} bytes:")
    longest, most = try_bodies()
    bars = [
        Bar("canary_connections", seen, 0, at_most=True),
        Bar("control_connections", reached, 1),
        Bar("vectors", tried["vectors"], 300),
        Bar("vectors_refused", tried["refused"] / 2, tried["vectors"]),
        Bar("rebinding_requests", rebound["refused"] + rebound["answered"], 2 * ROUNDS),
        Bar("seconds_past_timeout", max(longest, 0.0), 0.5, at_most=True),
        Bar("bytes_past_cap", max(most, 0), egress.HEAD_BYTES, at_most=True),
    ]
    print("\n".join(line for bar in bars for line in bar.lines()))
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
