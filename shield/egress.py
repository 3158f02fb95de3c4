"""Egress: fetch what a stranger's URL names, without being led to our own network.

The URL is parsed once. Its host is resolved here, every address is checked, and the connection goes to the checked
address under the original name, so that nothing is looked up twice. Redirects are checked the same way. The list of
what is refused is our own, for `ipaddress.is_global` lets NAT64, 6to4, multicast and site-local addresses through.
"""

import contextlib
import re
import socket
import ssl
import threading
import time
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore

from shield.errors import FetchFailed

OK = 200
REDIRECTS = 3
PORTS = {"http": 80, "https": 443}
HEADERS = [("User-Agent", "deepfake-shield"), ("Accept", "image/*, */*;q=0.1"), ("Accept-Encoding", "identity")]

REFUSED_V4 = [
    IPv4Network(net)
    for net in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),  # private, carrier's NAT, own machine, multicast, reserved
        *("192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15"),  # tests, benchmarks
        *("192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24"),  # AS112, AMT, 6to4 relays
        "168.63.129.16/32",  # Azure's host agent answers here, on a public address
    )
]
PUBLIC_V6 = IPv6Network("2000::/3")  # everything else is reserved, local, mapped, NAT64 or multicast
REFUSED_V6 = [
    IPv6Network(net)
    for net in (
        *("2001::/23", "2002::/16"),  # Teredo, ORCHID, benchmarks; 6to4
        *("2001:db8::/32", "3fff::/20", "3ffe::/16"),  # documentation, the old 6bone
    )
]


def fetch(url: str, *, limit_bytes: int, timeout_seconds: float, allow_loopback: bool = False) -> bytes:
    """The bytes that an http(s) URL answers with, after at most three redirects, within this size and whole time.

    Raises FetchFailed, which says why.
    """
    backend = _GuardedBackend(time.monotonic() + timeout_seconds, allow_loopback)
    try:
        with httpcore.ConnectionPool(ssl_context=_tls(), network_backend=backend) as pool:
            for _ in range(REDIRECTS + 1):
                parsed = _parse(url, allow_loopback)
                with pool.stream("GET", parsed, headers=[("Host", _host(parsed)), *HEADERS]) as response:
                    target = _redirect(response)
                    if target is None:
                        return _body(response, limit_bytes)
                    url = _join(url, target)
    except httpcore.TimeoutException as error:
        raise FetchFailed(f"timed out after {timeout_seconds:g} s") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise FetchFailed(f"the connection failed: {str(error) or type(error).__name__}") from error
    raise FetchFailed(f"more than {REDIRECTS} redirects")


def refusal(address: str, allow_loopback: bool = False) -> str | None:
    """Why this IP address must not be connected to; None when it is public."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if (allow_loopback and ip.is_loopback) or _is_public(ip):
        return None
    return f"address {address} is not public"


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv4Address):
        return not any(ip in net for net in REFUSED_V4)
    return ip in PUBLIC_V6 and not any(ip in net for net in REFUSED_V6)


def _parse(url: str, allow_loopback: bool) -> httpcore.URL:
    """The one reading of a URL; the parts are never put together and read again by another parser."""
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise FetchFailed("the URL holds a space, a backslash or a control character: percent-encode it")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError as error:
        raise FetchFailed(f"the URL is malformed: {error}") from error
    if parts.scheme not in PORTS:
        raise FetchFailed(f"the URL must begin with http:// or https://, not {parts.scheme or 'nothing'}")
    if parts.username is not None or parts.password is not None:
        raise FetchFailed("the URL holds a user name or password, which is not allowed")
    if not re.fullmatch(r"[0-9a-z._-]+|[0-9a-f:.]+", host):
        raise FetchFailed("the URL has no valid host")
    if port not in (None, *PORTS.values()) and not allow_loopback:
        raise FetchFailed(f"port {port} is not allowed: use 80 or 443")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?[]|{}^`")
    return httpcore.URL(scheme=parts.scheme, host=host, port=port, target=target)


def _join(url: str, target: str) -> str:
    """Where a redirect from `url` to `target` leads, not yet checked. Raises FetchFailed when that is no URL."""
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise FetchFailed(f"redirects to a malformed URL: {error}") from error


def _host(url: httpcore.URL) -> str:
    """The Host header; httpcore would leave an IPv6 address without its brackets."""
    host = url.host.decode()
    return (f"[{host}]" if ":" in host else host) + (f":{url.port}" if url.port is not None else "")


def _redirect(response: httpcore.Response) -> str | None:
    """Where a redirect leads; None for an answer with a body. Raises FetchFailed for any other answer."""
    if response.status == OK:
        return None
    location = next((value for name, value in response.headers if name.lower() == b"location"), None)
    if response.status in (301, 302, 303, 307, 308) and location is not None:
        return location.decode("latin-1")
    raise FetchFailed(f"answered {response.status}")


def _body(response: httpcore.Response, limit_bytes: int) -> bytes:
    """The body, counted as it comes: what Content-Length says only helps to refuse early."""
    headers = {name.lower(): value for name, value in response.headers}
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise FetchFailed("answered with a compressed body, which was not asked for")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > limit_bytes:
        raise FetchFailed(f"larger than {limit_bytes} bytes")
    content = bytearray()
    for part in response.iter_stream():
        content += part
        if len(content) > limit_bytes:
            raise FetchFailed(f"larger than {limit_bytes} bytes")
    return bytes(content)


class _GuardedBackend(httpcore.NetworkBackend):
    """Connects to checked addresses only, and lets nothing outlast the deadline (time.monotonic)."""

    def __init__(self, deadline: float, allow_loopback: bool) -> None:
        self._deadline = deadline
        self._allow_loopback = allow_loopback
        self._backend = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore.NetworkStream:
        addresses = _resolve(host, port, _left(self._deadline))
        for address in addresses:
            if reason := refusal(address, self._allow_loopback):
                raise FetchFailed(reason)
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError):
                return self._connect(address, port)
        return self._connect(addresses[-1], port)

    def _connect(self, address: str, port: int) -> httpcore.NetworkStream:
        return _Stream(self._backend.connect_tcp(address, port, _left(self._deadline)), self._deadline)


class _Stream(httpcore.NetworkStream):
    """A stream whose every step has only what is left of the whole time: a byte a second does not keep it alive."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, *_: Any, **__: Any) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, *_: Any, **__: Any) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, *_: Any, **__: Any
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left


def _resolve(host: str, port: int, seconds: float) -> list[str]:
    """Every address of a host. In a thread, because the system's resolver knows no deadline."""
    answers: SimpleQueue[list[str] | OSError] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except (OSError, UnicodeError) as error:
            answers.put(OSError(str(error)))

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise httpcore.ConnectTimeout from None
    if isinstance(answer, OSError) or not answer:
        raise FetchFailed(f"the host {host} has no address")
    return answer


@cache
def _tls() -> ssl.SSLContext:
    """Certificates are checked against the system's store."""
    return ssl.create_default_context()
