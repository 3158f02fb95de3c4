"""Fetching: what a stranger's URL answers with, within its limits of size and time."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from benchmarks.vectors import PUBLIC
from shield import egress
from shield.blobs import TooLarge
from shield.errors import FetchFailed, UrlRefused
from tests.shield.egress.sites import Site, fetch, plain, redirecting

CERTIFICATE = Path(__file__).parents[1] / "tls" / "photos.test.pem"  # with its key, for photos.test alone


@pytest.mark.usefixtures("names")
def test_the_connection_goes_to_the_checked_address(connected: list[str]) -> None:
    with pytest.raises(FetchFailed, match="refused by the test"):
        fetch("https://public.test/a.jpg")
    assert connected == [PUBLIC]


def test_one_bad_address_among_good_ones_refuses_the_host(
    names: dict[str, list[list[str]]], connected: list[str]
) -> None:
    names["mixed.test"] = [[PUBLIC, "10.0.0.1"]]
    with pytest.raises(FetchFailed, match=r"address 10\.0\.0\.1 is not public"):
        fetch("http://mixed.test/")
    assert connected == []


def test_a_name_that_changes_its_address_is_looked_up_once(
    names: dict[str, list[list[str]]], connected: list[str]
) -> None:
    names["rebinding.test"] = [[PUBLIC], ["127.0.0.1"]]
    with pytest.raises(FetchFailed, match="refused by the test"):
        fetch("http://rebinding.test/")
    assert connected == [PUBLIC]


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
    with pytest.raises(TooLarge, match=r"^larger than the limit of 1000 bytes$"):
        fetch(site.url, allow_loopback=True)


def test_a_body_shorter_than_announced_is_not_taken_for_whole(site: Site) -> None:
    site.answer = plain(b"half", Content_Length="8")
    with pytest.raises(FetchFailed, match=r"^the connection failed: "):
        fetch(site.url, allow_loopback=True)


def test_a_compressed_body_is_refused(site: Site) -> None:
    site.answer = plain(b"\x1f\x8b", Content_Encoding="gzip")
    with pytest.raises(FetchFailed, match="compressed"):
        fetch(site.url, allow_loopback=True)


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


def test_a_redirect_from_https_to_http_is_refused(
    site: Site, secure_site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "_tls", lambda: ssl.create_default_context(cafile=str(CERTIFICATE)))
    site.answer = redirecting(f"http://photos.test:{secure_site}/")
    with pytest.raises(UrlRefused, match="redirects from https to http"):
        fetch(f"https://photos.test:{secure_site}/", allow_loopback=True)
