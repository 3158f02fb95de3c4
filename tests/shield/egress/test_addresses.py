"""Which URLs and addresses a request may go to: none of our own, in no spelling."""

import contextlib
import re
import socket

import pytest

from benchmarks import ssrf
from benchmarks.vectors import PRIVATE_V4, PRIVATE_V6, PUBLIC, Vector, vectors
from shield import addresses
from shield.errors import FetchFailed, UrlRefused
from tests.shield.egress.sites import fetch, post


def words(text: str) -> list[str]:
    return text.split()


PUBLIC_ADDRESSES = words("""
8.8.8.8 93.184.215.14 100.63.255.255 100.128.0.1 172.32.0.1 192.88.98.1 198.20.0.1 2606:4700::1111 2a00:1450:4001::1
::ffff:8.8.8.8
""")


@pytest.mark.parametrize("address", PRIVATE_V4 + PRIVATE_V6)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(UrlRefused, match=f"^address {re.escape(address)} is not public$"):
        addresses.check(address, 80, allow_loopback=False)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_a_public_address_is_not_refused(address: str) -> None:
    addresses.check(address, 443, allow_loopback=False)


@pytest.mark.parametrize("address", PRIVATE_V4 + PRIVATE_V6)
def test_loopback_alone_is_allowed_where_the_setting_says_so(address: str) -> None:
    loopback = address == "::1" or address.removeprefix("::ffff:").startswith("127.")
    with contextlib.nullcontext() if loopback else pytest.raises(UrlRefused):
        addresses.check(address, 80, allow_loopback=True)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_loopback_may_have_any_port_where_it_is_allowed_and_nobody_else(address: str) -> None:
    addresses.check("127.0.0.1", 6379, allow_loopback=True)
    with pytest.raises(UrlRefused, match=r"^port 6379 is not allowed: use 80 or 443$"):
        addresses.check(address, 6379, allow_loopback=True)


@pytest.mark.parametrize("vector", vectors(80), ids=repr)
def test_no_spelling_of_a_url_leads_to_us(
    vector: Vector, names: dict[str, list[list[str]]], connected: list[str]
) -> None:
    names["attack.test"] = [list(vector.answers)]
    for send in (fetch, post):
        with pytest.raises(FetchFailed):
            send(vector.url)
    assert set(connected) <= {PUBLIC}


def test_a_name_that_changes_its_addresses_does_not_lead_to_us() -> None:
    canary, resolver = ssrf.Canary(), ssrf.Resolver()
    with ssrf.internet(canary, resolver):
        assert ssrf.control(canary, resolver) == 1
        ends = ssrf.try_rebinding(canary, resolver, 45)
        assert canary.seen() == 1
    assert set(ends) == {"refused", "answered"}


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://127.0.0.1/hook",
            "https://[::1]/",
            "http://localhost/hook",
            "http://2130706433/",
            "ftp://public.test/",
        ),
        *(
            "https://user:word@public.test/",
            "http://public.test:8080/",
            "https://public.test/\ud800",
            "https://a b/",
            "",
        ),
    ],
)
def test_a_url_that_cannot_be_sent_to_is_told_without_a_look_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    with pytest.raises(UrlRefused):
        addresses.parse(url, allow_loopback=False)


@pytest.mark.parametrize(
    "url", ["https://hooks.public.test/in?a=b#c", "HTTP://8.8.8.8:443", "https://[2606:4700::1111]/"]
)
def test_a_url_that_can_be_sent_to_is_not_refused(url: str) -> None:
    addresses.parse(url, allow_loopback=False)


def test_only_the_development_switch_lets_a_url_name_this_machine() -> None:
    for url in ("http://localhost:8080/hook", "http://127.0.0.1:8080/hook", "http://[::1]:8080/hook"):
        addresses.parse(url, allow_loopback=True)
    with pytest.raises(UrlRefused, match=r"address 10\.0\.0\.1 is not public"):
        addresses.parse("http://10.0.0.1/hook", allow_loopback=True)


@pytest.mark.parametrize(
    ("url", "target", "joined"),
    [
        ("http://public.test/a/b", "c?d#e", "http://public.test/a/c?d#e"),
        ("http://public.test/a", "//other.test/", "http://other.test/"),
        ("http://public.test/a", "https://public.test/a", "https://public.test/a"),
    ],
)
def test_a_redirect_is_read_beside_the_url_that_it_came_from(url: str, target: str, joined: str) -> None:
    assert addresses.join(url, target) == joined


def test_no_redirect_leads_from_https_to_http() -> None:
    with pytest.raises(UrlRefused, match="redirects from https to http"):
        addresses.join("HTTPS://public.test/a", "HTTP://public.test/a")


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
def test_the_host_is_told_as_the_url_names_it(url: str, host: str) -> None:
    assert addresses.host_header(addresses.parse(url, allow_loopback=False)) == host
