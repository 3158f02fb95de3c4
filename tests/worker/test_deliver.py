"""Webhooks from the end of a job to a real receiver and back into the rows."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from benchmarks.receiver import OK, Got, Receiver, Reply, receiving
from shield import deliveries, endpoints
from shield.db import now
from shield.models import Delivery, Endpoint, Notice
from shield.secret import Seal, secret_key
from shield.states import EventType
from tests.worker.conftest import House, RedisServer, Workers, wait_until
from tests.worker.post import Post
from worker.deliver import (
    CAP,
    Deliverer,
    body_of,
    retry_after,
    sweep_deliveries,
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def post(house: House, receiver: Receiver) -> Post:
    return Post(house, receiver)


def test_the_end_of_a_job_arrives_signed(post: Post) -> None:
    _, secret = post.endpoint(EventType.JOB_ENDED)
    job_id = post.end_a_job(b"none", b"broken")
    post.deliver()
    [got] = post.receiver.got
    told = Webhook(secret).verify(got.body, got.headers)
    assert told["type"] == "job.ended"
    assert told["data"]["job_id"] == job_id
    assert told["data"]["sequence"] == 1
    assert (told["data"]["counts"]["done"], told["data"]["counts"]["failed"]) == (1, 1)
    assert datetime.fromisoformat(told["timestamp"]).tzinfo is not None
    assert got.headers["content-type"] == "application/json"
    assert got.id.startswith("evt_")
    assert post.states() == ["delivered"]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(got.body.replace(b"job.ended", b"job.endet"), got.headers)


def test_flagged_and_failed_items_arrive(post: Post) -> None:
    _, secret = post.endpoint(EventType.ITEM_FLAGGED, EventType.ITEM_FAILED)
    post.end_a_job(b"face 1", b"broken", b"none")
    post.deliver()
    told = [Webhook(secret).verify(got.body, got.headers) for got in post.receiver.got]
    assert sorted(one["type"] for one in told) == ["item.failed", "item.flagged"]


def test_during_a_rotation_both_secrets_verify(post: Post) -> None:
    endpoint_id, old = post.endpoint()
    with post.database.write() as session:
        new = endpoints.rotate(session, post.house.account_id, endpoint_id, post.seal)
    post.tell(endpoint_id)
    post.deliver()
    [got] = post.receiver.got
    assert len(got.headers["webhook-signature"].split()) == 2
    for secret in (old, new):
        assert Webhook(secret).verify(got.body, got.headers)["type"] == "endpoint.test"
    with post.database.write() as session:
        session.execute(update(Endpoint).values(old_secret_until=now(session)))
    post.tell(endpoint_id)
    post.deliver()
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(post.receiver.got[-1].body, post.receiver.got[-1].headers)


def test_every_try_of_an_event_carries_its_id_and_the_same_body(post: Post) -> None:
    endpoint_id, secret = post.endpoint()
    replies = iter([Reply(500, body=b"not now"), Reply(reset=True), Reply(200, body=b"thanks")])
    post.receiver.reply = lambda _: next(replies)
    post.tell(endpoint_id)
    post.deliver()
    got = post.receiver.got
    assert len(got) == 3
    assert len({one.id for one in got}) == len({one.body for one in got}) == 1
    for one in got:
        Webhook(secret).verify(one.body, one.headers)
    tries = post.attempts()
    assert [(one.number, one.status, one.answer) for one in tries] == [
        (1, 500, "not now"),
        (2, None, ""),
        (3, 200, "thanks"),
    ]
    assert "connection" in (tries[1].error or "")
    assert all(one.latency_ms is not None for one in tries)
    assert post.states() == ["delivered"]


def test_the_first_4_kib_of_an_answer_are_kept_whatever_they_are(post: Post) -> None:
    endpoint_id, _ = post.endpoint()
    post.receiver.reply = lambda _: Reply(200, body=b"\xff\x00" + b"a" * 100_000)
    post.tell(endpoint_id)
    post.deliver()
    assert [one.answer for one in post.attempts()] == ["\ufffd\ufffd" + "a" * 4094]


def test_a_redirect_is_an_answer_that_is_not_followed(post: Post) -> None:
    endpoint_id, _ = post.endpoint()
    post.receiver.reply = lambda got: Reply(302, {"Location": post.receiver.url + "/elsewhere"})
    post.tell(endpoint_id)
    post.deliver()
    assert {got.path for got in post.receiver.got} == {"/"}
    assert [one.status for one in post.attempts()] == [302] * 3
    assert post.states() == ["exhausted"]


def test_a_receiver_that_never_answers_is_given_up_at_the_timeout(post: Post) -> None:
    post.config = post.config.model_copy(update={"webhook_timeout_seconds": 0.2})
    post.deliverer = Deliverer(post.database, post.config)
    endpoint_id, _ = post.endpoint()
    post.receiver.reply = lambda _: Reply(hang_seconds=60.0)
    post.tell(endpoint_id)
    post.deliver()
    assert [one.error for one in post.attempts()] == ["timed out after 0.2 s"] * 3


def test_an_address_that_is_not_public_is_not_connected_to(post: Post) -> None:
    post.config = post.config.model_copy(update={"egress_allow_loopback": False})
    post.deliverer = Deliverer(post.database, post.config)
    endpoint_id, _ = post.endpoint()  # as a name that led elsewhere when it was checked
    post.tell(endpoint_id)
    post.deliver()
    assert post.receiver.got == []
    assert all("not public" in (one.error or "") for one in post.attempts())
    assert post.states() == ["exhausted"]


def test_410_disables_the_endpoint_and_drops_what_is_owed(post: Post) -> None:
    endpoint_id, _ = post.endpoint()
    post.receiver.reply = lambda _: Reply(410)
    post.tell(endpoint_id)
    post.deliver()
    post_row = post.get(endpoint_id)
    assert (post_row.disabled_reason, post.states()) == ("gone", ["dropped"])
    post.tell(endpoint_id, times=2)  # owed before it was disabled, as it were
    post.deliver()
    assert post.states() == ["dropped"] * 3
    assert len(post.receiver.got) == 1
    with post.database.read() as session:
        assert session.scalars(select(Notice.code).order_by(Notice.id)).all() == ["created", "disabled"]


def test_retry_after_is_honoured(post: Post) -> None:
    endpoint_id, _ = post.endpoint()
    post.receiver.reply = lambda _: Reply(429, {"Retry-After": "3600"})
    post.tell(endpoint_id)
    wait_until(lambda: post.states() == ["waiting"], meanwhile=post.deliverer.turn)
    with post.database.read() as session:
        waiting = session.scalars(select(Delivery.next_at)).one()
        assert waiting is not None
        assert waiting > now(session) + timedelta(minutes=55)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("120", 120),
        ("-5", 0),
        ("soon", 0),
        ("9" * 30, 86400),
        ("9" * 5000, 86400),
        ("1e3", 0),
        ("Mon, 04 May 2026 03:02:01 GMT", 60),
        ("Mon, 04 May 2026 03:00:01 GMT", 0),
        ("\u0661", 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, seconds: int) -> None:
    assert retry_after(header, datetime(2026, 5, 4, 3, 1, 1, tzinfo=UTC)) == timedelta(seconds=seconds)


def test_a_rotation_under_a_new_secret_key_makes_deliveries_arrive_again(post: Post) -> None:
    endpoint_id, old = post.endpoint()
    post.config = post.config.model_copy(update={"secret_key": SecretStr("another key")})
    post.deliverer = Deliverer(post.database, post.config)
    with post.database.write() as session:
        seal = Seal(secret_key(post.config))
        new = endpoints.rotate(session, post.house.account_id, endpoint_id, seal)
    post.tell(endpoint_id)
    post.deliver()
    [got] = post.receiver.got
    Webhook(new).verify(got.body, got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(got.body, got.headers)


def test_a_secret_before_two_rotations_still_verifies(post: Post) -> None:
    endpoint_id, first = post.endpoint()
    made = [first]
    for _ in range(2):
        with post.database.write() as session:
            made.append(endpoints.rotate(session, post.house.account_id, endpoint_id, post.seal))
    post.tell(endpoint_id)
    post.deliver()
    [got] = post.receiver.got
    for secret in made:
        Webhook(secret).verify(got.body, got.headers)


def test_a_2xx_is_a_delivery_though_its_body_breaks_off(post: Post) -> None:
    endpoint_id, _ = post.endpoint()
    post.receiver.reply = lambda _: Reply(200, {"Content-Length": "1000"}, b"half")
    post.tell(endpoint_id)
    post.deliver()
    assert post.states() == ["delivered"]
    assert [(one.status, one.answer) for one in post.attempts()] == [(200, "half")]


def test_a_secret_that_cannot_be_opened_is_a_failed_try_that_says_what_to_do(post: Post) -> None:
    endpoint_id, _ = post.endpoint()
    with post.database.write() as session:
        session.execute(update(Endpoint).values(secret=Seal("another key").close("whsec_", endpoint_id)))
    post.tell(endpoint_id)
    post.deliver()
    assert all("Rotate the secret" in (one.error or "") for one in post.attempts())
    assert post.receiver.got == []


def test_a_fault_in_recording_costs_those_tries_and_no_others(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint_id, _ = post.endpoint()
    post.tell(endpoint_id)
    whole = deliveries.record

    def broken(*_: object) -> int:
        monkeypatch.setattr(deliveries, "record", whole)
        raise ValueError("a fault of ours")

    monkeypatch.setattr(deliveries, "record", broken)
    with pytest.raises(ValueError, match="a fault of ours"):
        wait_until(lambda: False, meanwhile=post.deliverer.turn)
    post.tell(endpoint_id)
    wait_until(lambda: "delivered" in post.states(), meanwhile=post.deliverer.turn)
    assert sorted(post.states()) == ["delivered", "sending"]
    with post.database.write() as session:
        session.execute(update(Delivery).where(Delivery.state == "sending").values(lease_until=now(session)))
    assert sweep_deliveries(post.database, post.config) == 1
    post.deliver()
    assert post.states() == ["delivered"] * 2


def test_a_deliverer_that_is_told_to_stop_begins_nothing_and_records_what_is_under_way(post: Post) -> None:
    endpoint_id, _ = post.endpoint()
    post.tell(endpoint_id, times=CAP + 1)
    arrived = threading.Semaphore(0)
    go_on = threading.Event()

    def reply(_: Got) -> Reply:
        arrived.release()
        go_on.wait(20)
        return OK

    post.receiver.reply = reply
    post.deliverer.turn()
    for _ in range(CAP):
        assert arrived.acquire(timeout=20)
    post.deliverer.stopping.set()
    go_on.set()
    post.deliverer.turn()
    assert sorted(post.states()) == ["delivered"] * CAP + ["pending"]


def test_what_a_house_held_that_died_is_sent_again(post: Post) -> None:
    endpoint_id, _ = post.endpoint()
    post.tell(endpoint_id)
    with post.database.write() as session:
        assert deliveries.lease(session, {endpoint_id: 1}, -1.0)
    assert sweep_deliveries(post.database, post.config) == 1
    post.deliver()
    assert post.states() == ["delivered"]
    assert [one.number for one in post.attempts()] == [1, 2]


def test_a_body_is_thin_and_says_when_it_happened(post: Post) -> None:
    endpoint_id, _ = post.endpoint()
    post.tell(endpoint_id)
    with post.database.write() as session:
        [held] = deliveries.lease(session, {endpoint_id: 1}, 60.0)
    body = json.loads(body_of(held))
    assert list(body) == ["type", "timestamp", "data"]
    assert body["data"]["sequence"] == held.sequence
    assert datetime.fromisoformat(body["timestamp"]) == held.happened_at


def test_the_house_delivers(post: Post, server: RedisServer, workers: Workers) -> None:
    server.start()
    endpoint_id, secret = post.endpoint()
    workers.start(*("worker", "house"), SHIELD_EGRESS_ALLOW_LOOPBACK="true", SHIELD_WEBHOOK_POLL_SECONDS="0.1")
    post.tell(endpoint_id)
    wait_until(lambda: post.states() == ["delivered"])
    [got] = post.receiver.got
    Webhook(secret).verify(got.body, got.headers)
