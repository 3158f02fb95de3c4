"""Egress: every request to a stranger's URL goes through here, and none is led to our own network.

A URL is parsed once. Its host is resolved here, every address is checked, and the connection goes to a checked address
under the original name, so that nothing is looked up twice. Time and bytes are counted over the whole exchange.
"""

import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Any

import httpcore

from shield import addresses
from shield.blobs import TooLarge
from shield.errors import FetchFailed

OK = 200
REDIRECTS = 3
HEAD_BYTES = 64 * 1024  # what an answer may have beside its body: its head, and how the body is framed
ALWAYS = [("User-Agent", "deepfake-shield"), ("Accept-Encoding", "identity")]  # what is never unpacked is no bomb
ACCEPT = ("Accept", "image/*, */*;q=0.1")
BREAKS = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError)  # of a connection
_tls = cache(ssl.create_default_context)  # certificates are checked against the system's store


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered: header names in lower case, and as much of the body as was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def fetch(url: str, *, limit_bytes: int, timeout_seconds: float, allow_loopback: bool = False) -> bytes:
    """The bytes that an http(s) URL answers with, after at most three redirects, each checked like the first URL.

    Raises TooLarge, UrlRefused, and FetchFailed for any other reason, which it says.
    """
    with _exchange(timeout_seconds, limit_bytes, allow_loopback) as exchange:
        for _ in range(REDIRECTS + 1):
            with exchange.send("GET", url, [*ALWAYS, ACCEPT]) as response:
                target = _redirect(url, response)
                if target is None:
                    return _body(response, limit_bytes)
                url = target
    raise FetchFailed(f"more than {REDIRECTS} redirects")


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float, limit_bytes: int, allow_loopback: bool
) -> Answer:
    """What a URL answers to this body, whatever the status: no redirect is followed. The answer's body is cut off.

    A head is an answer, whatever becomes of its body: a 200 that breaks off or goes on and on was a 200.
    Raises UrlRefused, and FetchFailed for any other reason why there is no answer, which it says.
    """
    with (
        _exchange(timeout_seconds, limit_bytes, allow_loopback) as exchange,
        exchange.send("POST", url, [*ALWAYS, *headers.items()], body) as response,
    ):
        content = bytearray()
        with suppress(*BREAKS, FetchFailed):
            _read(response, limit_bytes, content)
        return Answer(response.status, _headers(response), bytes(content))


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


def _redirect(url: str, response: httpcore.Response) -> str | None:
    """Where a redirect leads, not yet checked; None for an answer with a body. Raises FetchFailed for any other."""
    if response.status == OK:
        return None
    location = _headers(response).get("location")
    if response.status not in (301, 302, 303, 307, 308) or location is None:
        raise FetchFailed(f"answered {response.status}")
    return addresses.join(url, location)


def _body(response: httpcore.Response, limit_bytes: int) -> bytes:
    """The whole body, counted as it comes: what Content-Length says only helps to refuse early."""
    headers = _headers(response)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise FetchFailed("answered with a compressed body, which was not asked for")
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit_bytes:
        raise TooLarge(limit_bytes)
    content = bytearray()
    _read(response, limit_bytes + 1, content)
    if len(content) > limit_bytes:
        raise TooLarge(limit_bytes)
    return bytes(content)


def _read(response: httpcore.Response, limit_bytes: int, content: bytearray) -> None:
    """Add to `content` what comes of the body, cut off at this size."""
    for part in response.iter_stream():
        content += part[: limit_bytes - len(content)]
        if len(content) == limit_bytes:
            break


@contextmanager
def _exchange(timeout_seconds: float, limit_bytes: int, allow_loopback: bool) -> Iterator["_Exchange"]:
    exchange = _Exchange(time.monotonic() + timeout_seconds, limit_bytes, allow_loopback)
    try:
        yield exchange
    except (httpcore.TimeoutException, TimeoutError) as error:
        raise FetchFailed(f"timed out after {timeout_seconds:g} s") from error
    except BREAKS as error:
        raise FetchFailed(f"the connection failed: {str(error) or type(error).__name__}") from error


@dataclass(slots=True)
class _Exchange(httpcore.NetworkBackend):
    """Connects to checked addresses only; no step outlasts the deadline (time.monotonic) or reads past the limits."""

    deadline: float
    limit_bytes: int
    allow_loopback: bool
    bytes_left: int = 0

    @contextmanager
    def send(
        self, method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes | None = None
    ) -> Iterator[httpcore.Response]:
        parsed = addresses.parse(url, allow_loopback=self.allow_loopback)
        named = [("Host", addresses.host_header(parsed)), *headers]
        self.bytes_left = HEAD_BYTES
        with (
            httpcore.ConnectionPool(ssl_context=_tls(), network_backend=self) as pool,
            pool.stream(method, parsed, headers=named, content=body) as response,
        ):
            self.bytes_left += self.limit_bytes
            yield response

    def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore.NetworkStream:
        found = addresses.resolve(host, port, seconds=self.seconds_left(), allow_loopback=self.allow_loopback)
        for waiting in range(len(found), 1, -1):
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._connect(found[-waiting], port, self.seconds_left() / waiting)
        return self._connect(found[-1], port, self.seconds_left())

    def _connect(self, address: str, port: int, seconds: float) -> httpcore.NetworkStream:
        stream = httpcore.SyncBackend().connect_tcp(address, port, seconds)
        if ip_address(stream.get_extra_info("server_addr")[0]) != ip_address(address):
            stream.close()
            raise FetchFailed(f"the connection led to another address than {address}")
        return _Stream(stream, self)

    def seconds_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


@dataclass(slots=True)
class _Stream(httpcore.NetworkStream):
    """A connection whose every step has only what is left: a byte a second does not keep it alive."""

    stream: httpcore.NetworkStream
    exchange: _Exchange

    def read(self, max_bytes: int, *_: Any, **__: Any) -> bytes:
        if self.exchange.bytes_left == 0:
            raise FetchFailed("the answer is larger than its head and body may be")
        part = self.stream.read(min(max_bytes, self.exchange.bytes_left), self.exchange.seconds_left())
        self.exchange.bytes_left -= len(part)
        return part

    def write(self, buffer: bytes, *_: Any, **__: Any) -> None:
        connection = self.stream.get_extra_info("socket")
        try:
            while buffer:  # httpcore's own loop gives each part the whole time anew
                connection.settimeout(self.exchange.seconds_left())
                buffer = buffer[connection.send(buffer) :]
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self.stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: Any = None, *_: Any, **__: Any) -> httpcore.NetworkStream:
        secure = self.stream.start_tls(ssl_context, server_hostname, self.exchange.seconds_left())
        return _Stream(secure, self.exchange)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)
