"""Posting: one request, one answer, whatever it is."""

import socket
import threading

import pytest

from shield import egress
from shield.errors import FetchFailed, UrlRefused
from tests.shield.egress.sites import Site, plain, post, redirecting


def test_the_answer_is_what_the_server_said(site: Site) -> None:
    site.answer = plain(b"thanks", 201, Retry_After="7")
    answer = post(f"{site.url}/hook?a=b", allow_loopback=True)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (201, "7", b"thanks")
    ((path, headers),) = site.requests
    assert (path, site.bodies) == ("/hook?a=b", [b"{}"])
    assert headers == {
        "Host": site.url.removeprefix("http://"),
        "User-Agent": "deepfake-shield",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "webhook-id": "msg_1",
        "Content-Length": "2",
    }


@pytest.mark.parametrize("code", [204, 304, 400, 401, 404, 410, 429, 500, 503])
def test_a_status_of_any_kind_is_an_answer(site: Site, code: int) -> None:
    site.answer = plain(b"", code, Content_Length="0")
    assert post(site.url, allow_loopback=True).status == code


@pytest.mark.parametrize("target", ["/b", "http://127.0.0.1:1/", "http://10.0.0.1/", "nonsense://["])
def test_a_redirect_is_an_answer_and_is_not_followed(site: Site, target: str) -> None:
    site.answer = redirecting(target)
    answer = post(f"{site.url}/a", allow_loopback=True)
    assert (answer.status, answer.headers["location"]) == (302, target)
    assert [path for path, _ in site.requests] == ["/a"]


@pytest.mark.parametrize("size", [0, 999, 1000, 1001, 100_000])
def test_of_the_body_the_first_bytes_are_kept(site: Site, size: int) -> None:
    site.answer = plain(b"x" * size)
    assert post(site.url, allow_loopback=True).body == b"x" * min(size, 1000)


@pytest.mark.parametrize("code", [200, 410, 500])
def test_a_head_is_an_answer_though_its_body_breaks_off(site: Site, code: int) -> None:
    site.answer = plain(b"half", code, Content_Length="1000")
    answer = post(site.url, allow_loopback=True)
    assert (answer.status, answer.body) == (code, b"half")


def test_a_private_url_is_refused_before_anything_is_sent(site: Site) -> None:
    with pytest.raises(UrlRefused, match=r"^address 127\.0\.0\.1 is not public$"):
        post(site.url)
    assert site.requests == []


def test_a_header_cannot_bring_another_with_it(site: Site) -> None:
    headers = {"webhook-id": "1\r\nHost: other.test"}
    with pytest.raises(FetchFailed, match=r"^the connection failed: "):
        egress.post(site.url, b"{}", headers, timeout_seconds=5.0, limit_bytes=1000, allow_loopback=True)
    assert site.requests == []


def test_a_receiver_that_answers_before_it_has_read_everything_is_heard() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 20):
                    pass

        threading.Thread(target=talk, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        answer = egress.post(url, b"x" * (4 << 20), {}, timeout_seconds=10.0, limit_bytes=1000, allow_loopback=True)
    assert answer.status == 413


def test_a_receiver_that_does_not_read_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(FetchFailed, match=r"^timed out after 0\.5 s$"):
            egress.post(url, b"x" * (32 << 20), {}, timeout_seconds=0.5, limit_bytes=1000, allow_loopback=True)
