"""Workers as processes: what becomes of a job when messages, workers or Redis go missing."""

import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import update

from shield.models import Chunk, Item, Job
from shield.outbox import SCAN
from shield.queue import celery_app
from tests.worker.conftest import House, RedisServer, Workers, publish, stop, wait_until


def test_given_a_message_that_was_lost_when_a_worker_is_idle_then_it_finds_the_chunk(
    house: House, server: RedisServer, workers: Workers
) -> None:
    server.start()
    workers.start()
    wait_until(lambda: "celery@" in workers.log() and "ready." in workers.log())
    job = house.submit(b"face 1", b"none 2")  # and no message is sent
    wait_until(lambda: house.ended(job))
    assert house.outcomes(job) == ["fake", "no_face"]
    assert server.waiting("interactive") == 0


def test_given_no_poll_when_messages_arrive_then_their_chunks_are_scanned(
    house: House, server: RedisServer, workers: Workers
) -> None:
    server.start()
    workers.start(SHIELD_LEASE_POLL_SECONDS="3600")
    wait_until(lambda: "ready." in workers.log())
    job = house.submit(*[b"face %d" % n for n in range(9)])
    assert publish(house, server) == 3
    wait_until(lambda: house.ended(job))
    assert house.outcomes(job) == ["fake"] * 9
    wait_until(lambda: server.waiting("bulk") == 0)


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_given_a_pickle_in_the_queue_then_it_is_refused_runs_nothing_and_the_worker_goes_on(
    house: House, server: RedisServer, workers: Workers, tmp_path: Path
) -> None:
    server.start()
    app = celery_app(server.url)
    app.send_task(SCAN, args=[Bomb(tmp_path / "ran")], queue="interactive", serializer="pickle")
    assert server.waiting("interactive") == 1
    workers.start()
    wait_until(lambda: server.waiting("interactive") == 0)
    job = house.submit(b"face 1")
    publish(house, server)
    wait_until(lambda: house.ended(job))
    assert "application/x-python-serialize" in workers.log()
    assert not (tmp_path / "ran").exists()


def test_given_no_redis_at_the_start_then_a_worker_scans_and_consumes_when_redis_comes(
    house: House, server: RedisServer, workers: Workers
) -> None:
    first = house.submit(b"face 1")
    workers.start()
    wait_until(lambda: house.ended(first))
    server.start()
    second = house.submit(b"face 2")
    assert publish(house, server) == 2
    wait_until(lambda: house.ended(second) and server.waiting("interactive") == 0)


def test_given_a_redis_that_refuses_to_write_then_the_worker_lives_scans_and_consumes_when_it_writes_again(
    house: House, server: RedisServer, workers: Workers
) -> None:
    server.start()
    with server.client() as client:
        client.config_set("maxmemory", "1")
        process = workers.start()
        wait_until(lambda: "the consumer failed" in workers.log())
        first = house.submit(b"face 1")
        wait_until(lambda: house.ended(first))
        client.config_set("maxmemory", "0")
    second = house.submit(b"face 2")
    publish(house, server)
    wait_until(lambda: house.ended(second) and server.waiting("interactive") == 0)
    assert workers.log().count("ready: stub 1") == 1  # the networks were loaded once
    assert stop(process) == 0


def test_given_a_job_under_way_when_its_worker_is_killed_then_it_ends_with_every_item_once(
    house: House, server: RedisServer, workers: Workers
) -> None:
    server.start()
    job = house.submit(*[b"slow %d" % n for n in range(16)])
    publish(house, server)
    first = workers.start()

    def held_in_mid_scan() -> bool:
        """Freeze the worker; let it go on unless it has results and holds a lease at this very moment."""
        first.send_signal(signal.SIGSTOP)
        if house.job(job).done > 0 and any(chunk.state == "leased" for chunk in house.chunks(job)):
            return True
        first.send_signal(signal.SIGCONT)
        return False

    wait_until(held_in_mid_scan)
    assert stop(first, signal.SIGKILL) == -signal.SIGKILL
    assert not house.ended(job)
    workers.start()
    wait_until(lambda: house.ended(job), meanwhile=house.sweep)
    house.check()
    assert house.outcomes(job) == ["fake"] * 16
    assert [len(item.faces) for item in house.items(job)] == [1] * 16


def test_given_an_image_that_kills_workers_then_it_is_poison_and_its_neighbours_are_scanned(
    house: House, server: RedisServer, workers: Workers
) -> None:
    job = house.submit(b"face 1", b"kill 2", b"face 3", b"none 4")
    other = house.submit(b"face 5", b"face 6")  # taken as company by the worker that dies
    process = workers.start()
    deaths = 0

    def start_again() -> None:
        nonlocal process, deaths
        house.sweep()
        if process.poll() is not None:
            deaths += 1
            process = workers.start()

    wait_until(lambda: house.ended(job) and house.ended(other), meanwhile=start_again)
    house.check()
    assert house.outcomes(job) == ["fake", "poison", "fake", "no_face"]
    assert house.outcomes(other) == ["fake", "fake"]
    assert deaths == 5  # two until the chunk is split, three on the single


def test_given_a_job_under_way_when_the_worker_is_told_to_stop_then_nothing_stays_leased_and_nobody_is_blamed(
    house: House, server: RedisServer, workers: Workers
) -> None:
    server.start()
    job = house.submit(*[b"slow %d" % n for n in range(40)])
    publish(house, server)
    process = workers.start()
    wait_until(lambda: house.job(job).done > 0)
    assert stop(process) == 0
    assert {chunk.state for chunk in house.chunks(job)} <= {"ready", "done"}
    assert {chunk.deaths for chunk in house.chunks(job)} == {0}
    assert set(house.outcomes(job)) == {"fake", "pending"}
    house.check()


def test_given_the_house_process_then_it_relays_and_sweeps_and_outlives_redis(
    house: House, server: RedisServer, workers: Workers
) -> None:
    job = house.submit(b"face 1")
    process = workers.start("worker", "house")
    wait_until(lambda: "relay waits" in workers.log())
    server.start()
    wait_until(lambda: "relay works again" in workers.log())
    assert server.waiting("interactive") == 1
    expire(house, job)
    wait_until(lambda: house.chunks(job)[0].state == "ready")
    assert house.chunks(job)[0].deaths == 1
    assert workers.log().count("relay waits") == 1
    assert stop(process) == 0


def expire(house: House, job: Job) -> None:
    """As a worker leaves it that leased the job's chunk and died long ago."""
    held = {"state": "leased", "lease_token": "x", "begun": True, "lease_until": datetime(2020, 1, 1, tzinfo=UTC)}
    with house.database.write() as session:
        session.execute(update(Chunk).where(Chunk.job_id == job.id).values(held))
        session.execute(update(Item).where(Item.job_id == job.id).values(state="leased"))


def test_given_no_redis_url_then_a_worker_says_what_to_do(house: House, workers: Workers) -> None:
    process: subprocess.Popen[bytes] = workers.start("worker", "house", SHIELD_REDIS_URL="")
    assert process.wait() == 2
    assert "SHIELD_REDIS_URL is empty. `python -m shield up` starts" in workers.log()
