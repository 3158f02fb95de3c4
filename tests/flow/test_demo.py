"""`make demo` as a newcomer runs it, and with a worker killed in the middle."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager

import httpx
import pytest
from PIL import Image

from tests.flow.stack import ROOT
from tests.processes import ended

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

OUT = ROOT / "var" / "demo"


def start() -> AbstractContextManager[subprocess.Popen[str]]:
    """The demo, in the environment of somebody who has an installation elsewhere, and with limits that forbid it."""
    line = [sys.executable, "samples/demo.py"]
    env = os.environ | {
        "SHIELD_MAX_ITEMS": "3",
        "SHIELD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/somebody-elses",
    }
    return ended(subprocess.Popen(line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return
    pytest.fail(f"the demo ended without saying {words!r}: {''.join(seen)}")


def children() -> dict[str, int]:
    found: dict[str, int] = json.loads((OUT / "home" / "up.json").read_text())["children"]
    return found


def test_the_demo_ends_well_though_its_worker_is_killed() -> None:
    with start() as process:
        read_until(process, "accepted as one job")
        running = children()
        os.kill(running["scan"], signal.SIGKILL)
        out, err = process.communicate()
    assert process.returncode == 0, err
    expected = json.loads((ROOT / "samples" / "expected.json").read_text())
    results = [json.loads(line) for line in (OUT / "results.jsonl").read_text().splitlines()]
    assert [result["custom_id"] for result in results] == sorted(f"samples/{name}" for name in expected)
    assert [len(result["faces"]) for result in results] == [expected[name]["faces"] for name in sorted(expected)]
    for result in results:
        assert result["state"] == "done"
        assert result["custom_id"] in out
    for name in expected:
        with Image.open(OUT / "pictures" / name) as drawn, Image.open(ROOT / "samples" / name) as photo:
            upright = photo.size if name != "rotated.jpg" else photo.size[::-1]
            assert drawn.size == upright
    assert "swaps score above their original" in out
    assert not (OUT / "home" / "up.json").exists()
    assert not any(alive(pid) for pid in running.values())
    wait = sum(result["verdict"] in ("fake", "suspect") for result in results)
    assert wait > 1
    assert f"SHIELD_HOME=var/demo/home make up   start the system again and keep it: {wait} cases" in out
    assert "http://127.0.0.1:8000/review" in out
    assert len(cases_after_the_demo()) == wait


def cases_after_the_demo() -> list[str]:
    """The ids of the cases in the system that is started as the demo's last words say."""
    line = [sys.executable, "-m", "shield", "up", "--while-stdin"]
    env = os.environ | {"SHIELD_HOME": "var/demo/home", "SHIELD_PORT": "0"}
    pipe = subprocess.PIPE
    with ended(subprocess.Popen(line, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True)) as system:
        assert system.stdout is not None
        url = next(line.split()[-1] for line in system.stdout if "is up at" in line)
        key = (OUT / "key").read_text().strip()
        answer = httpx.get(f"{url}/v1/cases", headers={"Authorization": f"Bearer {key}"}, trust_env=False)
        system.communicate()  # closes its stdin, which ends it
    return [case["id"] for case in answer.json()["data"]]


def test_a_demo_that_is_stopped_stops_what_it_started() -> None:
    with start() as process:
        read_until(process, "accepted as one job")
        running = children()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "nothing is left running" in err
    assert not any(alive(pid) for pid in running.values())


def test_a_demo_whose_terminal_is_closed_stops_what_it_started() -> None:
    with start() as process:
        read_until(process, "accepted as one job")
        running = children()
        process.send_signal(signal.SIGHUP)
        process.communicate()
    assert process.returncode == 130
    assert not any(alive(pid) for pid in running.values())


def test_a_demo_that_is_killed_takes_its_system_with_it() -> None:
    with start() as process:
        read_until(process, "accepted as one job")
        running = children()
        process.kill()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in running.values()):
        assert time.monotonic() < deadline, "the system outlived the demo"
        time.sleep(0.1)


def test_a_second_demo_at_the_same_time_is_told_so() -> None:
    with start() as first:
        read_until(first, "Starting the system")
        with start() as second:
            _, err = second.communicate()
        first.send_signal(signal.SIGTERM)
        first.communicate()
    assert second.returncode == 1
    assert "another demo is running" in err
    assert first.returncode == 130


def test_a_demo_whose_system_does_not_start_says_why() -> None:
    shutil.rmtree(OUT / "home", ignore_errors=True)
    (OUT / "home").write_text("a file in the way")
    try:
        with start() as process:
            _, err = process.communicate()
    finally:
        (OUT / "home").unlink()
    assert process.returncode == 1
    assert "the stack ended with exit code 2 instead of starting" in err
    assert "set SHIELD_HOME" in err
    assert "make clean" in err


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
