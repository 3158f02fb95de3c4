"""`deepfake-shield listen`: deliveries signed by the official library, sent over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from deepfake_shield import CannotListen, NotConfigured, NotVerified, verify
from deepfake_shield.__main__ import main
from deepfake_shield.receiver import MAX_BODY, Receiver
from tests.clients.test_command import CLIENT
from tests.processes import ended

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
OTHER = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
EVENT = {"type": "job.ended", "timestamp": "2026-11-24T12:00:00Z", "data": {"job_id": "job_1"}}
BODY = json.dumps(EVENT)


def signed(*secrets: str, name: str = "msg_1", age: float = 0.0) -> dict[str, str]:
    """The headers of a delivery of BODY that was signed so many seconds ago."""
    sent = datetime.fromtimestamp(int(time.time() - age), UTC)
    signatures = [Webhook(secret).sign(name, sent, BODY) for secret in secrets]
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(sent.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


class Listening:
    """A receiver, and what it has written."""

    def __init__(self, secret: str | None) -> None:
        self.told: list[str] = []
        self.receiver = Receiver(0, secret, self.told.append)
        threading.Thread(target=self.receiver.serve_forever, args=(0.02,), daemon=True).start()

    def post(self, headers: dict[str, str], content: bytes | str = BODY) -> int:
        return httpx.post(self.receiver.url, content=content, headers=headers, trust_env=False).status_code


@pytest.fixture
def listen() -> Iterator[Callable[..., Listening]]:
    started: list[Listening] = []

    def start(secret: str | None = SECRET) -> Listening:
        started.append(Listening(secret))
        return started[-1]

    yield start
    for each in started:
        each.receiver.shutdown()
        each.receiver.server_close()


def test_a_delivery_is_verified_and_printed(listen: Callable[..., Listening]) -> None:
    listening = listen()
    assert listening.post(signed(SECRET)) == 204
    head, *body = listening.told[0].splitlines()
    assert head[10:] == "msg_1  verified"
    assert json.loads("\n".join(body)) == EVENT


def test_any_of_several_signatures_may_fit_as_during_a_rotation(listen: Callable[..., Listening]) -> None:
    assert listen().post(signed(OTHER, SECRET)) == 204
    assert listen(OTHER).post(signed(OTHER, SECRET)) == 204


def test_a_delivery_that_comes_again_is_told_apart(listen: Callable[..., Listening]) -> None:
    listening = listen()
    for name in ("msg_1", "msg_2", "msg_1"):
        assert listening.post(signed(SECRET, name=name)) == 204
    assert ["delivered again" in each for each in listening.told] == [False, False, True]


@pytest.mark.parametrize(
    ("secret", "age", "changed", "body", "reason"),
    [
        (OTHER, 0, {}, BODY, "no signature fits"),
        (SECRET, 0, {}, BODY + " ", "no signature fits"),
        (SECRET, 0, {"webhook-id": "msg_2"}, BODY, "no signature fits"),
        (SECRET, 0, {"webhook-signature": "v2,AAAA"}, BODY, "no signature fits"),
        (SECRET, 0, {"webhook-signature": "nonsense"}, BODY, "no signature fits"),
        (SECRET, 3600, {}, BODY, "s old: it may be a recorded delivery"),
        (SECRET, -3600, {}, BODY, "s in the future: compare the two clocks"),
        (SECRET, 0, {"webhook-timestamp": "yesterday"}, BODY, "no number of seconds"),
        (SECRET, 0, {"webhook-id": None}, BODY, "the header webhook-id is missing"),
        (SECRET, 0, {"webhook-signature": None}, BODY, "the header webhook-signature is missing"),
    ],
)
def test_what_is_not_verified_says_why(
    listen: Callable[..., Listening], secret: str, age: float, changed: dict[str, str | None], body: str, reason: str
) -> None:
    listening = listen()
    headers = {name: text for name, text in (signed(secret, age=age) | changed).items() if text is not None}
    assert listening.post(headers, body) == 400
    assert "NOT VERIFIED: " in listening.told[0]
    assert reason in listening.told[0]


@pytest.mark.parametrize(("age", "fresh"), [(299, True), (301, False), (-299, True), (-301, False)])
def test_a_timestamp_holds_for_five_minutes(age: float, fresh: bool) -> None:
    headers = signed(SECRET)
    now = float(headers["webhook-timestamp"]) + age
    if fresh:
        assert verify(SECRET, headers, BODY.encode(), now=now) == EVENT
    else:
        with pytest.raises(NotVerified, match=r"^the timestamp is 301 s "):
            verify(SECRET, headers, BODY.encode(), now=now)


def test_without_a_secret_a_delivery_is_printed_unchecked(listen: Callable[..., Listening]) -> None:
    listening = listen(None)
    assert listening.post({}, b"no json \x1b[2J \xff") == 204
    assert listening.told[0].splitlines()[0].endswith("no webhook-id  not checked: no secret was given")
    assert "\x1b" not in listening.told[0]


def test_a_body_that_is_far_too_large_is_not_read(listen: Callable[..., Listening]) -> None:
    listening = listen()
    assert listening.post({}, b"x" * (MAX_BODY + 1)) == 413
    assert listening.told == []


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", SECRET.removeprefix("whsec_")])
def test_a_secret_that_is_none_is_refused_at_once(secret: str) -> None:
    with pytest.raises(NotConfigured, match="whsec_ and base64"):
        Receiver(0, secret, print)


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen):
            Receiver(port, SECRET, print)
        assert main(["listen", "--port", str(port)]) == 1
    assert f"cannot listen on port {port}" in capsys.readouterr().err


def test_the_command_listens_until_it_is_interrupted() -> None:
    line = [sys.executable, "-m", "deepfake_shield", "listen", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(CLIENT), "DEEPFAKE_SHIELD_WEBHOOK_SECRET": SECRET}
    pipe = subprocess.PIPE
    with ended(subprocess.Popen(line, env=environment, stdout=pipe, stderr=pipe, text=True)) as listening:
        assert listening.stderr is not None
        url = listening.stderr.readline().split()[2].rstrip(";")
        assert httpx.post(url, content=BODY, headers=signed(SECRET), trust_env=False).status_code == 204
        listening.send_signal(signal.SIGINT)
        out, _ = listening.communicate(timeout=30)
    assert listening.returncode == 0
    assert "msg_1  verified" in out
