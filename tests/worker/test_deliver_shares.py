"""Who shares the deliverer's threads with whom: whoever is dead or slow delays nobody else."""

import math
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import update

from benchmarks.receiver import OK, Got, Reply, receiving
from shield.db import now
from shield.models import Endpoint
from tests.worker.conftest import House, wait_until
from tests.worker.post import Post
from worker import deliver
from worker.deliver import ACCOUNT_CAP, CAP, SHARES, THREADS, Standing, UnderWay

POOR = SHARES[Standing.POOR]


@pytest.fixture
def post(house: House) -> Iterator[Post]:
    with receiving() as receiver:
        yield Post(house, receiver)


def test_one_endpoint_is_sent_no_more_than_its_share_at_a_time(post: Post) -> None:
    endpoint_id, _ = post.endpoint()
    together = threading.Barrier(CAP)  # each waits for the others: fewer at a time would never be done

    def reply(_: Got) -> Reply:
        together.wait(20)
        return OK

    post.receiver.reply = reply
    post.tell(endpoint_id, times=3 * CAP)
    post.deliver()
    assert post.states() == ["delivered"] * 3 * CAP
    assert post.receiver.most_at_once == CAP


def test_endpoints_that_hang_leave_the_others_their_threads(post: Post) -> None:
    released = threading.Event()
    post.receiver.reply = lambda got: Reply() if got.path == "/alive" else _held(released)
    dead = [
        post.endpoint(account_id=post.account(f"dead {n}"), url=f"{post.receiver.url}/dead")[0]
        for n in range(THREADS // CAP + 2)
    ]
    with post.database.write() as session:
        session.execute(update(Endpoint).values(failing_since=now(session)))
    alive, _ = post.endpoint(url=f"{post.receiver.url}/alive")
    post.tell(*dead, times=CAP)
    wait_until(lambda: post.states().count("sending") == POOR, meanwhile=post.deliverer.turn)
    post.tell(alive, times=20)
    post.deliver(alive)
    assert post.states().count("delivered") == 20
    assert post.states().count("sending") == POOR
    released.set()
    post.deliver()


@pytest.mark.parametrize("known", [False, True], ids=["are new", "were quick"])
def test_accounts_that_hang_for_the_first_time_leave_the_others_their_threads(
    post: Post, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "QUICK_SECONDS", 3600.0)  # what answers is quick, however busy this machine is
    alive, _ = post.endpoint(url=f"{post.receiver.url}/alive")
    hanging = [
        post.endpoint(account_id=post.account(f"hanging {n}"), url=f"{post.receiver.url}/hanging")[0]
        for n in range(THREADS // CAP + 2)
    ]
    post.tell(alive, *(hanging if known else ()))
    post.deliver()
    released = threading.Event()
    post.receiver.reply = lambda got: OK if got.path == "/alive" else _held(released, OK)
    most = SHARES[Standing.POOR if known else Standing.NEW]
    if known:  # one at first, which takes its time, and then many more
        post.tell(*hanging)
        wait_until(lambda: post.states().count("sending") == len(hanging), meanwhile=post.deliverer.turn)
        under_way = post.deliverer._in_flight
        post.deliverer._in_flight = {name: UnderWay(one.delivery, -math.inf) for name, one in under_way.items()}
    post.tell(*hanging, times=CAP)
    wait_until(lambda: post.states().count("sending") == most, meanwhile=post.deliverer.turn)
    post.tell(alive, times=20)
    post.deliver(alive)
    assert post.states().count("sending") == most
    released.set()
    post.deliver()


def test_accounts_whose_answers_come_late_share_the_threads_of_those_that_fail(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "QUICK_SECONDS", -1.0)  # every answer is late
    slow = [post.endpoint(account_id=post.account(f"slow {n}"))[0] for n in range(POOR // CAP + 1)]
    post.tell(*slow)
    post.deliver()
    assert post.states() == ["delivered"] * len(slow)
    released = threading.Event()
    post.receiver.reply = lambda _: _held(released, OK)
    post.tell(*slow, times=CAP)
    wait_until(lambda: post.states().count("sending") == POOR, meanwhile=post.deliverer.turn)
    post.deliverer.turn()
    assert post.states().count("sending") == POOR
    released.set()
    post.deliver()


def test_no_more_is_remembered_of_endpoints_than_there_is_room_for(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "REMEMBERED", 2)
    first, second, third = (post.endpoint()[0] for _ in range(3))
    for endpoint_id in (first, second, first, third):
        post.tell(endpoint_id)
        post.deliver()
    assert list(post.deliverer._quick) == [first, third]


def test_an_account_has_its_share_of_the_threads_however_many_endpoints_it_has(post: Post) -> None:
    released = threading.Event()
    post.receiver.reply = lambda got: Reply() if got.path == "/quick" else _held(released)
    slow = [post.endpoint(url=f"{post.receiver.url}/slow")[0] for _ in range(THREADS // CAP + 2)]
    quick, _ = post.endpoint(account_id=post.account("other"), url=f"{post.receiver.url}/quick")
    post.tell(*slow, times=CAP)
    post.deliverer.turn()
    assert post.states().count("sending") == ACCOUNT_CAP
    post.tell(quick, times=2 * CAP)
    post.deliver(quick)
    assert post.states().count("sending") == ACCOUNT_CAP
    released.set()
    post.deliver()


def _held(until: threading.Event, reply: Reply = Reply(500)) -> Reply:  # noqa: B008 - a frozen dataclass
    until.wait(60)
    return reply
