"""Rate limits and quotas."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from limits import parse
from pydantic import ValidationError
from werkzeug.test import TestResponse

from api.limits import Limits
from shield.queue import CeleryQueue
from shield.settings import Settings
from tests.api.conftest import House, RedisServer, form_token

ASKING = """
import sys
from limits import parse
from api.limits import Limits
limits, rate = Limits(sys.argv[1], ""), parse(sys.argv[2])
print(sum(limits.count(rate, "account", "acc_1")[0] for _ in range(int(sys.argv[3]))))
"""


def test_four_processes_together_let_through_what_the_limit_says(redis_server: RedisServer) -> None:
    line = (sys.executable, "-c", ASKING, redis_server.url, "5000 per hour", "2500")
    root = Path(__file__).parents[2]
    asking = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(4)]
    allowed = [int(process.communicate(timeout=120)[0]) for process in asking]
    assert abs(sum(allowed) - 5000) <= 1
    assert all(count > 0 for count in allowed)


def test_beyond_the_limit_requests_are_refused_and_told_when_to_come_again(build: Callable[..., House]) -> None:
    house = build(rate_limit="3 per minute")
    _, other = house.new_account("other")
    left = []
    for _ in range(3):
        answer = house.get("/v1/jobs")
        assert answer.status_code == 200
        assert answer.headers["RateLimit-Policy"] == '"default";q=3;w=60'
        left.append(answer.headers["RateLimit"].split(";")[1])
    assert left == ["r=2", "r=1", "r=0"]
    refused = house.get("/v1/keys")
    assert (refused.status_code, refused.get_json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit"].startswith('"default";r=0;t=')
    with_another_key = house.client.get("/v1/jobs", headers={"Authorization": f"Bearer {other}"})
    assert with_another_key.status_code == 200
    assert house.client.get("/healthz").status_code == 200


def test_no_limit_counts_nothing(build: Callable[..., House]) -> None:
    house = build(rate_limit="")
    assert "RateLimit" not in house.get("/v1/jobs").headers


def test_a_limit_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ValidationError, match="rate_limit"):
        Settings(rate_limit="as often as you like", _env_file=None)


def test_while_redis_hangs_or_is_gone_each_process_counts_by_itself(redis_server: RedisServer) -> None:
    limits, rate = Limits(redis_server.url, ""), parse("2 per minute")
    assert limits.count(rate, "a")[0]
    os.kill(redis_server.process.pid, signal.SIGSTOP)
    assert [limits.count(rate, "a")[0] for _ in range(3)] == [True, True, False]
    redis_server.stop()
    assert [limits.count(rate, "b")[0] for _ in range(3)] == [True, True, False]


def test_a_redis_that_hangs_holds_up_no_request(build: Callable[..., House], redis_server: RedisServer) -> None:
    os.kill(redis_server.process.pid, signal.SIGSTOP)
    house = build(CeleryQueue(redis_server.url), redis_url=redis_server.url)
    assert house.get("/v1/jobs").status_code == 200


def test_passwords_are_tried_a_few_times_a_minute(build: Callable[..., House]) -> None:
    house = build()
    form = {"form_token": form_token(house.client.get("/login")), "name": "x", "password": "y"}
    answers = [house.client.post("/login", data=form).status_code for _ in range(11)]
    assert answers == [401] * 10 + [429]


@pytest.mark.parametrize(("proxies", "spread"), [(0, False), (1, True)])
def test_the_address_before_a_proxy_counts_where_there_is_one(
    build: Callable[..., House], proxies: int, spread: bool
) -> None:
    house = build(proxies=proxies)
    form = {"form_token": form_token(house.client.get("/login")), "name": "x", "password": "y"}
    last = [
        house.client.post("/login", data=form, headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code
        for n in range(11)
    ][-1]
    assert last == (401 if spread else 429)


def test_a_prefix_of_ipv6_tries_passwords_as_one_address(build: Callable[..., House]) -> None:
    house = build()
    form = {"form_token": form_token(house.client.get("/login")), "password": "y"}

    def sign_in(number: int, address: str) -> int:
        data = form | {"name": f"person {number}"}
        return house.client.post("/login", data=data, environ_base={"REMOTE_ADDR": address}).status_code

    assert [sign_in(n, f"2001:db8:0:1:{n}::1") for n in range(11)] == [401] * 10 + [429]
    assert sign_in(11, "2001:db8:0:2::1") == 401


def test_a_name_is_tried_a_few_times_a_minute_wherever_from(build: Callable[..., House]) -> None:
    house = build()
    form = {"form_token": form_token(house.client.get("/login")), "password": "y"}

    def sign_in(number: int, name: str) -> TestResponse:
        address = {"REMOTE_ADDR": f"192.0.2.{number}"}
        return house.client.post("/login", data=form | {"name": name}, environ_base=address)

    answers = [sign_in(n, ("robin", " robin")[n % 2]) for n in range(21)]
    assert [answer.status_code for answer in answers] == [401] * 20 + [429]
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert sign_in(22, "somebody else").status_code == 401


def test_who_is_told_to_wait_is_told_long_enough(build: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(rate_limit="1 per minute")
    limits: Limits = house.app.extensions["limits"]
    monkeypatch.setattr(limits, "count", lambda *_: (False, 0, 7.2))
    refused = house.get("/v1/jobs")
    assert (refused.headers["Retry-After"], refused.headers["RateLimit"]) == ("8", '"default";r=0;t=8')
    assert "wait 8 s" in refused.get_json()["detail"]


def test_a_quota_refuses_a_job_whole_and_lets_in_what_fits(build: Callable[..., House]) -> None:
    house = build(max_items_per_day=5)
    house.submit(4)
    refused = house.upload((b"1", "1.jpg"), (b"2", "2.jpg"))
    assert (refused.status_code, refused.get_json()["code"]) == (429, "quota_used")
    assert 3600 < int(refused.headers["Retry-After"]) <= 24 * 3600
    assert len(house.get("/v1/jobs").get_json()["data"]) == 1
    house.submit(1)
    _, other = house.new_account("other")
    items = {"items": [{"url": "https://example.org/a.jpg"}]}
    answer = house.client.post("/v1/jobs", json=items, headers={"Authorization": f"Bearer {other}"})
    assert answer.status_code == 202
