"""Addresses: which URLs and which IP addresses a request may go to, and which ones a name stands for.

`ipaddress.is_global` is not asked: it depends on the Python release, and lets NAT64, 6to4, multicast and site-local
addresses through. The list here is our own.
"""

import re
import socket
import threading
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from queue import Empty, SimpleQueue
from urllib.parse import quote, urljoin, urlsplit

import httpcore

from shield.errors import FetchFailed, UrlRefused

PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"(?:[0-9a-z_-]+\.)*[0-9a-z_-]+\.?|[0-9a-f:.]+")
AUTHORITY = re.compile(r"(?:[^\[\]:@]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?")
LITERAL = re.compile(r".*:.*|(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")  # an IP address as it should be written, or refused
OWN_NAME = re.compile(r"(?:.*\.)?localhost\.?")

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
# Whatever is outside is reserved, local, mapped, IPv4-compatible, NAT64, SRv6, site-local or multicast.
PUBLIC_V6 = IPv6Network("2000::/3")
REFUSED_V6 = [
    IPv6Network(net)
    for net in (
        *("2001::/23", "2002::/16"),  # Teredo, ORCHID, benchmarks; 6to4
        *("2001:db8::/32", "3fff::/20", "3ffe::/16"),  # documentation, the old 6bone
        "2620:4f:8000::/48",  # AS112
    )
]


def parse(url: str, *, allow_loopback: bool) -> httpcore.URL:
    """The one reading of a URL; its parts are never put together and read again by another parser.

    Raises UrlRefused for a URL that no request would go to, as far as can be told without a look-up.
    """
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise UrlRefused("the URL holds a space, a backslash or a control character: percent-encode it")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode()
        literal = str(ip_address(host)) if LITERAL.fullmatch(host) else None
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        if parts.query:
            target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?[]|{}^`")
    except ValueError as error:
        raise _malformed(error) from error
    if parts.scheme not in PORTS:
        raise UrlRefused(f"the URL must begin with http:// or https://, not {parts.scheme or 'nothing'}")
    if "@" in parts.netloc:
        raise UrlRefused("the URL holds a user name or password, which is not allowed")
    if not AUTHORITY.fullmatch(parts.netloc) or not HOST.fullmatch(host):
        raise UrlRefused("the URL has no valid host")
    if OWN_NAME.fullmatch(host) and not allow_loopback:
        raise UrlRefused(f"the host {host} is this machine")
    if literal is not None:
        check(literal, PORTS[parts.scheme] if port is None else port, allow_loopback=allow_loopback)
    elif port is not None and not allow_loopback:
        _check_port(port)
    return httpcore.URL(scheme=parts.scheme, host=host, port=port, target=target)


def _malformed(error: ValueError) -> UrlRefused:
    if isinstance(error, UnicodeError):  # whose words are the codec's
        return UrlRefused("the host of the URL cannot be a name: its parts have 1 to 63 characters each")
    return UrlRefused(f"the URL is malformed: {error}")


def join(url: str, target: str) -> str:
    """Where a redirect from `url` to `target` leads, not parsed yet. Raises UrlRefused."""
    try:
        joined = urljoin(url, target)
    except ValueError as error:
        raise UrlRefused(f"redirects to a malformed URL: {error}") from error
    if url.lower().startswith("https:") and joined.lower().startswith("http:"):
        raise UrlRefused("redirects from https to http, where anybody on the way can change the answer")
    return joined


def host_header(url: httpcore.URL) -> str:
    """The Host header; httpcore would leave an IPv6 address without its brackets."""
    host = url.host.decode()
    return (f"[{host}]" if ":" in host else host) + (f":{url.port}" if url.port is not None else "")


def check(address: str, port: int, *, allow_loopback: bool) -> None:
    """Raises UrlRefused for an IP address or a port that must not be connected to."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # ::ffff:127.0.0.1 is reached over IPv4
    if allow_loopback and ip.is_loopback:
        return
    if not _is_public(ip):
        raise UrlRefused(f"address {address} is not public")
    _check_port(port)


def resolve(host: str, port: int, *, seconds: float, allow_loopback: bool) -> list[str]:
    """Every address of a host, all of them checked. In a thread, because the system's resolver knows no deadline.

    Raises UrlRefused when any of them must not be connected to, FetchFailed when there is none, TimeoutError.
    """
    answers: SimpleQueue[list[str]] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        answers.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    for address in answer:
        check(address, port, allow_loopback=allow_loopback)
    if not answer:
        raise FetchFailed(f"the host {host} has no address")
    return answer


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv4Address):
        return not any(ip in net for net in REFUSED_V4)
    return ip in PUBLIC_V6 and not any(ip in net for net in REFUSED_V6)


def _check_port(port: int) -> None:
    if port not in PORTS.values():
        raise UrlRefused(f"port {port} is not allowed: use 80 or 443")
