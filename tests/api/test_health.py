import os
import signal
from collections.abc import Callable

from shield.queue import CeleryQueue
from tests.api.conftest import House, RedisServer


def test_a_whole_system_is_ready(build: Callable[..., House], redis_server: RedisServer) -> None:
    client = build(CeleryQueue(redis_server.url)).client
    assert client.get("/healthz").get_json() == {"state": "alive"}
    answer = client.get("/readyz")
    assert (answer.status_code, answer.get_json()) == (
        200,
        {"state": "ready", "database": "up", "storage": "up", "queue": "up"},
    )


def test_without_redis_work_is_still_accepted(build: Callable[..., House], redis_server: RedisServer) -> None:
    redis_server.stop()
    answer = build(CeleryQueue(redis_server.url)).client.get("/readyz")
    assert (answer.status_code, answer.get_json()) == (
        200,
        {"state": "degraded", "database": "up", "storage": "up", "queue": "down"},
    )


def test_a_redis_that_hangs_is_down_and_holds_up_nobody(build: Callable[..., House], redis_server: RedisServer) -> None:
    os.kill(redis_server.process.pid, signal.SIGSTOP)
    house = build(CeleryQueue(redis_server.url))
    assert house.client.get("/readyz").get_json()["queue"] == "down"
    assert house.upload((b"x", "x.jpg")).status_code == 202


def test_without_the_database_the_api_is_alive_and_not_ready(house: House) -> None:
    house.database.close()
    for path in house.settings.home.glob("shield.db*"):
        path.unlink()
    (house.settings.home / "shield.db").mkdir()
    assert house.client.get("/healthz").status_code == 200
    answer = house.client.get("/readyz")
    assert (answer.status_code, answer.get_json()) == (
        503,
        {"state": "down", "database": "down", "storage": "up", "queue": "up"},
    )


def test_where_nothing_can_be_stored_the_api_is_not_ready(house: House) -> None:
    folder = house.settings.blob_folder
    assert house.client.get("/readyz").status_code == 200
    assert list(folder.iterdir()) == []  # the probe leaves nothing
    folder.rmdir()
    folder.write_text("a file where the folder should be")
    answer = house.client.get("/readyz")
    assert (answer.status_code, answer.get_json()["state"]) == (503, "down")
    assert answer.get_json()["storage"] == "down"
