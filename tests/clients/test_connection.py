"""What is repeated and what is not, when server or network misbehave. Against a scripted server."""

import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from deepfake_shield import (
    AnswerLost,
    ApiError,
    Busy,
    NotConfigured,
    NotFound,
    ServerFailed,
    ServerUnreachable,
    Shield,
    ShieldError,
)
from tests.clients.scripted import Answer, Scripted, job

Make = Callable[..., Scripted]
KEY = "dfs_live_test"
PROBLEM = {"code": "rate_limited", "detail": "too many jobs", "title": "Too Many Requests", "status": 429}
URL = "https://example.com/a.jpg"


@pytest.mark.parametrize("status", [429, 503])
def test_a_refused_submission_is_sent_again_in_full(scripted: Make, tmp_path: Path, status: int) -> None:
    (tmp_path / "a.jpg").write_bytes(b"all of it")
    server = scripted(Answer(status, PROBLEM), Answer(status, PROBLEM), Answer(202, job()))
    with Shield(server.url, KEY) as shield:
        assert shield.submit(tmp_path).id == "job_1"
    assert [b"all of it" in asked.body for asked in server.asked] == [True, True, True]
    assert {asked.key for asked in server.asked} == {f"Bearer {KEY}"}


def test_a_server_that_says_how_long_is_given_that_long(scripted: Make) -> None:
    server = scripted(Answer(503, PROBLEM, (("Retry-After", "1"),)), Answer(202, job()))
    told: list[tuple[str, float]] = []
    start = time.monotonic()
    with Shield(server.url, KEY, on_repeat=lambda error, seconds: told.append((error.code, seconds))) as shield:
        shield.submit(URL)
    assert told == [("rate_limited", 1.0)]
    assert time.monotonic() - start >= 1.0


def test_a_date_says_how_long_too(scripted: Make) -> None:
    date = formatdate(time.time() - 5, usegmt=True)  # it has come already
    server = scripted(Answer(429, PROBLEM, (("Retry-After", date),)), Answer(200, job()))
    told: list[float] = []
    with Shield(server.url, KEY, on_repeat=lambda _error, seconds: told.append(seconds)) as shield:
        shield.job("job_1")
    assert told == [0.0]


def test_a_server_that_asks_for_too_long_is_given_up_on(scripted: Make) -> None:
    server = scripted(Answer(429, PROBLEM, (("Retry-After", "3600"),)))
    with Shield(server.url, KEY) as shield, pytest.raises(Busy, match="too many jobs") as caught:
        shield.submit(URL)
    assert caught.value.retry_after == 3600.0
    assert len(server.asked) == 1


def test_a_server_that_stays_busy_is_given_up_on(scripted: Make) -> None:
    server = scripted(*[Answer(503, PROBLEM)] * 9)
    with Shield(server.url, KEY) as shield, pytest.raises(Busy):
        shield.submit(URL)
    assert len(server.asked) == 4


@pytest.mark.parametrize("trouble", [Answer(0), Answer(502), Answer(503), Answer(504)])
def test_a_submission_that_may_have_been_taken_is_repeated_with_its_key(scripted: Make, trouble: Answer) -> None:
    server = scripted(trouble, Answer(202, job()), trouble, trouble, Answer(202, job()))
    with Shield(server.url, KEY) as shield:
        shield.submit(URL)
        shield.retry("job_1")
    keys = [asked.once for asked in server.asked]
    assert keys == [keys[0]] * 2 + [keys[2]] * 3
    assert keys[0] != keys[2]
    assert None not in keys


def test_every_submission_has_a_key_of_its_own(scripted: Make, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"all of it")
    server = scripted(*[Answer(202, job())] * 4)
    with Shield(server.url, KEY) as shield:
        shield.submit(URL)
        shield.submit(URL)
        shield.submit(tmp_path)
        shield.submit(tmp_path, on_upload=lambda _sent, _size: None)
    assert len({asked.once for asked in server.asked} - {None}) == 4


def test_a_submission_whose_answers_are_all_lost_is_told(scripted: Make) -> None:
    server = scripted(*[Answer(0)] * 9)
    with Shield(server.url, KEY) as shield, pytest.raises(AnswerLost, match="look at your jobs") as caught:
        shield.submit(URL)
    assert caught.value.code == "answer_lost"
    assert len(server.asked) == 4


def test_a_server_that_failed_is_not_asked_again(scripted: Make) -> None:
    server = scripted(Answer(500, b"<html>a bug</html>"), Answer(202, job()))
    with Shield(server.url, KEY) as shield, pytest.raises(ServerFailed) as caught:
        shield.submit(URL)
    assert caught.value.code == "http_500"
    assert len(server.asked) == 1


@pytest.mark.parametrize("trouble", [Answer(0), Answer(502), Answer(503), Answer(504)])
def test_what_may_be_done_twice_is_asked_again(scripted: Make, trouble: Answer) -> None:
    server = scripted(trouble, Answer(200, job()), trouble, Answer(200, job("ended")), trouble, Answer(204, b""))
    with Shield(server.url, KEY) as shield:
        assert shield.job("job_1").state == "queued"
        assert shield.cancel("job_1").state == "ended"
        shield.delete("job_1")
    assert [asked.method for asked in server.asked] == ["GET", "GET", "POST", "POST", "DELETE", "DELETE"]


def test_results_that_break_off_are_not_taken_for_all(scripted: Make) -> None:
    line = b'{"id": "itm_1", "state": "done", "verdict": "clear"}\n'
    server = scripted(Answer(-1, line))
    with Shield(server.url, KEY) as shield:
        results = shield.results("job_1")
        assert next(results).id == "itm_1"
        with pytest.raises(AnswerLost, match="broke off"):
            next(results)


def test_no_server_is_told_and_where_it_was_looked_for(scripted: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told: list[ShieldError] = []
    shield = Shield(f"http://127.0.0.1:{port}", KEY, on_repeat=lambda error, _seconds: told.append(error))
    with shield, pytest.raises(ServerUnreachable, match=f"127.0.0.1:{port}.*is it running"):
        shield.submit(URL)
    assert len(told) == 3


def test_something_else_than_the_server_is_told(scripted: Make) -> None:
    server = scripted(Answer(200, b"<html>hello</html>"), Answer(404, b"<html>nothing</html>"), Answer(418, b""))
    with Shield(server.url, KEY) as shield:
        for kind, code in ((ServerFailed, "not_json"), (NotFound, "http_404"), (ServerFailed, "http_418")):
            with pytest.raises(ApiError) as caught:
                shield.job("job_1")
            assert (type(caught.value), caught.value.code) == (kind, code)


def test_the_key_follows_no_redirect(scripted: Make) -> None:
    elsewhere = scripted()
    server = scripted(Answer(307, b"", (("Location", f"{elsewhere.url}/v1/jobs"),)))
    with Shield(server.url, KEY) as shield, pytest.raises(ServerFailed, match=elsewhere.url):
        shield.submit(URL)
    assert elsewhere.asked == []


def test_a_proxy_is_not_asked_for_this_machine(scripted: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = scripted(Answer(200, job()))
    with Shield(server.url, KEY) as shield:
        assert shield.job("job_1").id == "job_1"


def test_url_and_key_come_from_the_environment(scripted: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    server = scripted(Answer(200, job()))
    monkeypatch.setenv("DEEPFAKE_SHIELD_URL", f"{server.url}/")
    monkeypatch.setenv("DEEPFAKE_SHIELD_KEY", "of the environment")
    with Shield() as shield:
        shield.job("job_1")
    assert (server.asked[0].path, server.asked[0].key) == ("/v1/jobs/job_1", "Bearer of the environment")


@pytest.mark.parametrize(
    ("url", "key", "words"),
    [
        ("http://127.0.0.1", "", "DEEPFAKE_SHIELD_KEY"),
        ("127.0.0.1:8000", "k", "should look like"),
        ("ftp://x", "k", "should look like"),
        ("http://", "k", "should look like"),
        ("http://[::1", "k", "not a URL"),
        ("http://x", "k\n", "copy it again"),
        ("http://x", "schlüssel", "copy it again"),
    ],
)
def test_what_cannot_work_is_told_at_once(url: str, key: str, words: str) -> None:
    with pytest.raises(NotConfigured, match=words):
        Shield(url, key)
