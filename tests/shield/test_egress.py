"""Egress: nothing of ours can be reached through a stranger's URL. No test here leaves this machine."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpcore
import pytest

from shield import egress
from shield.errors import FetchFailed

CERTIFICATE = Path(__file__).parent / "tls" / "photos.test.pem"  # with its key, for photos.test alone


def words(text: str) -> list[str]:
    return text.split()


PRIVATE = words("""
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.254 127.0.0.1 127.255.255.254
169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.31.196.1
192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1
224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 168.63.129.16
:: ::1 ::127.0.0.1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
64:ff9b::169.254.169.254 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1
2001:10::1 2001:20::1 2001:db8::1 2002:a9fe:a9fe::1 2002:7f00:1::1 2002:a00:1::1 3ffe::1 3fff::1 5f00::1 fc00::1
fd00:ec2::254 fdff::1 fe80::1 febf::1 fec0::1 ff02::1 ff0e::1
""")

PUBLIC = words(
    "8.8.8.8 93.184.215.14 100.63.255.255 100.128.0.1 172.32.0.1 198.20.0.1 2606:4700::1111 2a00:1450:4001::1"
)

SPELLINGS = words("""
http://localhost/ http://LOCALHOST/ http://localhost./ http://127.1/ http://127.0.1/ http://2130706433/ http://0/
http://0x7f000001/ http://0x7f.0.0.1/ http://0177.0.0.1/ http://017700000001/ http://127.0.0.1./ http://[::1]/
http://[0:0:0:0:0:0:0:1]/ http://[::ffff:7f00:1]/ http://[::ffff:127.0.0.1]/ http://①②⑦.⓪.⓪.①/ http://127。0。0。1/
http://2852039166/ http://0xa9fea9fe/ http://169.254.169.254:80/latest/meta-data/ http://public.test@127.0.0.1/
http://127.0.0.1#@public.test/ http://127.0.0.1?@public.test/ http://127.0.0.1\\@public.test/ http://[fe80::1%25eth0]/
""")

MALFORMED = words("""
ftp://public.test/a.jpg file:///etc/passwd gopher://public.test/ data:image/png;base64,AAAA javascript:alert(1)
//public.test/a.jpg public.test/a.jpg http:///a.jpg http:// http://user@public.test/ http://user:word@public.test/
http://:word@public.test/ http://public.test:99999/ http://public.test:port/ http://[::1/ http://a..b/ http://pub%6cic.test/
http://public.test:22/ http://public.test:6379/ http://public.test:8000/ dict://public.test:11211/stat http://pu_blic.te!st/
""")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names resolve to: for each a list of answers, the last of which stays. Other names are really looked up."""
    table: dict[str, list[list[str]]] = {"public.test": [["93.184.215.14"]]}
    asked = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **more: Any) -> Any:
        if host not in table:
            return asked(host, port, *args, **more)
        answers = table[host].pop(0) if len(table[host]) > 1 else table[host][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers]

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


def fetch(url: str, limit: int = 1000, seconds: float = 5.0, *, allow_loopback: bool = False) -> bytes:
    return egress.fetch(url, limit_bytes=limit, timeout_seconds=seconds, allow_loopback=allow_loopback)


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert egress.refusal(address) == f"address {address} is not public"


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_not_refused(address: str) -> None:
    assert egress.refusal(address) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_loopback_alone_is_allowed_where_the_setting_says_so(address: str) -> None:
    loopback = address == "::1" or address.removeprefix("::ffff:").startswith("127.")
    assert (egress.refusal(address, allow_loopback=True) is None) == loopback


@pytest.mark.parametrize("url", [f"http://{f'[{a}]' if ':' in a else a}/" for a in PRIVATE] + SPELLINGS + MALFORMED)
@pytest.mark.usefixtures("names")
def test_no_spelling_of_a_url_leads_to_a_connection(url: str, connected: list[str]) -> None:
    with pytest.raises(FetchFailed):
        fetch(url)
    assert connected == []


@pytest.mark.usefixtures("names")
def test_the_connection_goes_to_the_checked_address(connected: list[str]) -> None:
    with pytest.raises(FetchFailed, match="refused by the test"):
        fetch("https://public.test/a.jpg")
    assert connected == ["93.184.215.14"]


def test_one_bad_address_among_good_ones_refuses_the_host(
    names: dict[str, list[list[str]]], connected: list[str]
) -> None:
    names["mixed.test"] = [["93.184.215.14", "10.0.0.1"]]
    with pytest.raises(FetchFailed, match=r"address 10\.0\.0\.1 is not public"):
        fetch("http://mixed.test/")
    assert connected == []


def test_a_name_that_changes_its_address_is_looked_up_once(
    names: dict[str, list[list[str]]], connected: list[str]
) -> None:
    names["rebinding.test"] = [["93.184.215.14"], ["127.0.0.1"]]
    with pytest.raises(FetchFailed, match="refused by the test"):
        fetch("http://rebinding.test/")
    assert connected == ["93.184.215.14"]


def test_a_name_without_an_address_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(FetchFailed, match=r"the host nowhere\.test has no address"):
        fetch("http://nowhere.test/")


def test_a_resolver_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: held.wait(30) and [])
    with pytest.raises(FetchFailed, match=r"timed out after 0\.2 s"):
        fetch("http://slow.test/", seconds=0.2)
    held.set()


Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A server on loopback whose one answer a test gives, and the requests that it has seen."""

    def __init__(self) -> None:
        self.answer: Answer = plain(b"")
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((self.path, dict(self.headers)))
                site.answer(self)

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.released.set()
    site.server.shutdown()
    site.server.server_close()


def plain(body: bytes, code: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def dripping(site: Site, parts: Iterable[bytes], silence: float = 0.0) -> Answer:
    """Says nothing for so many seconds, then sends a part every twentieth of a second while anybody listens."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if site.released.wait(silence):
            return
        handler.send_response(200)
        handler.end_headers()
        for part in parts:
            if site.released.wait(0.05):
                return
            try:
                handler.wfile.write(part)
            except OSError:
                return

    return answer


def test_the_body_is_what_was_sent_and_the_request_says_little(site: Site) -> None:
    site.answer = plain(b"pixels")
    assert fetch(f"{site.url}/a%20b/ü.jpg?size=1&q=ä#part", allow_loopback=True) == b"pixels"
    ((path, headers),) = site.requests
    assert path == "/a%20b/%C3%BC.jpg?size=1&q=%C3%A4"
    assert headers == {
        "Host": site.url.removeprefix("http://"),
        "User-Agent": "deepfake-shield",
        "Accept": "image/*, */*;q=0.1",
        "Accept-Encoding": "identity",
    }


def test_proxies_of_the_environment_are_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    site.answer = plain(b"pixels")
    assert fetch(site.url, allow_loopback=True) == b"pixels"


@pytest.mark.parametrize("code", [204, 206, 304, 400, 401, 403, 404, 410, 429, 500, 503])
def test_any_other_answer_is_named(site: Site, code: int) -> None:
    site.answer = plain(b"", code)
    with pytest.raises(FetchFailed, match=rf"^answered {code}$"):
        fetch(site.url, allow_loopback=True)


def test_a_body_may_be_as_large_as_the_limit(site: Site) -> None:
    site.answer = plain(b"x" * 1000)
    assert len(fetch(site.url, allow_loopback=True)) == 1000


@pytest.mark.parametrize("announced", ["", "1001", "999999999999"])
def test_a_larger_body_is_refused_whatever_the_headers_say(site: Site, announced: str) -> None:
    site.answer = plain(b"x" * 1001, Content_Length=announced) if announced else plain(b"x" * 1001)
    with pytest.raises(FetchFailed, match=r"^larger than 1000 bytes$"):
        fetch(site.url, allow_loopback=True)


def test_a_body_shorter_than_announced_is_not_taken_for_whole(site: Site) -> None:
    site.answer = plain(b"half", Content_Length="8")
    with pytest.raises(FetchFailed, match=r"^the connection failed: "):
        fetch(site.url, allow_loopback=True)


def test_a_compressed_body_is_refused(site: Site) -> None:
    site.answer = plain(b"\x1f\x8b", Content_Encoding="gzip")
    with pytest.raises(FetchFailed, match="compressed"):
        fetch(site.url, allow_loopback=True)


def test_a_byte_now_and_then_does_not_keep_a_fetch_alive(site: Site) -> None:
    site.answer = dripping(site, [b"x"] * 1000)
    with pytest.raises(FetchFailed, match=r"^timed out after 0\.5 s$"):
        fetch(site.url, limit=10_000, seconds=0.5, allow_loopback=True)


def test_a_server_that_says_nothing_is_given_up(site: Site) -> None:
    site.answer = dripping(site, [], silence=30.0)
    with pytest.raises(FetchFailed, match=r"^timed out after 0\.3 s$"):
        fetch(site.url, seconds=0.3, allow_loopback=True)


def test_what_is_not_http_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"+PONG\r\n")

        threading.Thread(target=talk, daemon=True).start()
        with pytest.raises(FetchFailed, match=r"^the connection failed: "):
            fetch(f"http://127.0.0.1:{server.getsockname()[1]}/", allow_loopback=True)


@pytest.fixture
def secure_site(site: Site, names: dict[str, list[list[str]]]) -> str:
    """The site behind TLS as photos.test and as other.test, with a certificate of its own for the first; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    names["photos.test"] = names["other.test"] = [["127.0.0.1"]]
    site.answer = plain(b"pixels")
    return str(site.server.server_port)


def test_a_certificate_that_the_system_does_not_trust_is_refused(secure_site: str) -> None:
    with pytest.raises(FetchFailed, match="certificate verify failed"):
        fetch(f"https://photos.test:{secure_site}/", allow_loopback=True)


def test_a_certificate_is_checked_against_the_name_in_the_url(
    secure_site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "_tls", lambda: ssl.create_default_context(cafile=str(CERTIFICATE)))
    assert fetch(f"https://photos.test:{secure_site}/", allow_loopback=True) == b"pixels"
    with pytest.raises(FetchFailed, match=r"not valid for 'other\.test'"):
        fetch(f"https://other.test:{secure_site}/", allow_loopback=True)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://public.test/", "public.test"),
        ("https://PUBLIC.test:443/", "public.test:443"),
        ("http://[2606:4700::1111]/", "[2606:4700::1111]"),
        ("http://[2606:4700::1111]:80/", "[2606:4700::1111]:80"),
        ("http://bücher.test/", "xn--bcher-kva.test"),
    ],
)
@pytest.mark.usefixtures("names")
def test_the_host_is_told_as_the_url_names_it(url: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def stream(_: object, method: str, parsed: object, headers: list[tuple[str, str]]) -> None:
        sent.extend(headers)
        raise httpcore.ConnectError("refused by the test")

    monkeypatch.setattr(httpcore.ConnectionPool, "stream", stream)
    with pytest.raises(FetchFailed):
        fetch(url)
    assert dict(sent)["Host"] == host


def redirecting(*targets: str) -> Answer:
    """Redirects along these targets, then answers."""
    rest = list(targets)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if rest:
            plain(b"", 302, Location=rest.pop(0), Content_Length="0")(handler)
        else:
            plain(b"pixels")(handler)

    return answer


def test_three_redirects_are_followed(site: Site) -> None:
    site.answer = redirecting("/b", f"{site.url}/c", "d")
    assert fetch(f"{site.url}/a", allow_loopback=True) == b"pixels"
    assert [path for path, _ in site.requests] == ["/a", "/b", "/c", "/d"]


def test_a_fourth_is_not(site: Site) -> None:
    site.answer = redirecting("/b", "/c", "/d", "/e")
    with pytest.raises(FetchFailed, match=r"^more than 3 redirects$"):
        fetch(f"{site.url}/a", allow_loopback=True)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://10.0.0.1/", "address 10.0.0.1 is not public"),
        ("//169.254.169.254/latest/", "address 169.254.169.254 is not public"),
        ("http://[::ffff:10.0.0.1]/", "is not public"),
        ("file:///etc/passwd", "must begin with http"),
        ("http://user:word@public.test/", "user name or password"),
        ("http://127.0.0.1\\@public.test/", "backslash"),
        ("http://[abc", "redirects to a malformed URL"),
    ],
)
def test_a_redirect_is_checked_like_the_first_url(site: Site, target: str, reason: str) -> None:
    site.answer = redirecting(target)
    with pytest.raises(FetchFailed, match=reason.replace(".", r"\.")):
        fetch(site.url, allow_loopback=True)


def test_a_redirect_without_a_target_is_named(site: Site) -> None:
    site.answer = plain(b"", 302)
    with pytest.raises(FetchFailed, match=r"^answered 302$"):
        fetch(site.url, allow_loopback=True)
