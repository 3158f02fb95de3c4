"""The supervisor: the whole stack as processes, and single children."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shield.errors import SettingsError
from shield.settings import Settings
from shield.supervisor import Child, Stack, make_home

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds until a test that waits in vain fails
NAMES = ["redis", "house", "api", "scan"]


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether no such process runs; one that has ended and is not yet collected by its new parent has gone too."""
    try:
        os.kill(pid, 0)
        return sys.platform == "linux" and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


class Up:
    """`python -m shield up` on a folder of its own."""

    def __init__(self, home: Path, *arguments: str, **env: str) -> None:
        self.home = home
        self.out = home.with_suffix(".out")
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "shield", "up", *arguments),
                cwd=ROOT,
                env={**os.environ, "SHIELD_HOME": str(home), "SHIELD_PORT": "0", "SHIELD_REDIS_URL": ""} | env,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        wait_until(lambda: "Ctrl-C stops it" in self.said() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()

    def said(self) -> str:
        return self.out.read_text()

    def note(self) -> dict[str, Any]:
        """What HOME/up.json says."""
        note: dict[str, Any] = json.loads((self.home / "up.json").read_text())
        return note

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*arguments: str, **env: str) -> Up:
        started.append(Up(tmp_path / "home", *arguments, **env))
        return started[-1]

    yield start
    for stack in started:
        stack.end()


def test_given_a_new_home_then_the_stack_comes_up_restarts_what_dies_and_stops_whole(up: Callable[..., Up]) -> None:
    stack = up()
    stack.wait_until_ready()
    note, said = stack.note(), stack.said()
    assert note["pid"] == stack.process.pid
    assert list(note["children"]) == NAMES
    assert f"is up at {note['url']}" in said
    assert re.search(r"API key, shown this once: dfs_live_[0-9A-Za-z]{36}\n", said)
    assert f"{note['url']}/session/" in said
    assert stat.S_IMODE(stack.home.stat().st_mode) == 0o700
    assert httpx.get(f"{note['url']}/readyz").status_code == 200

    second = subprocess.run(
        (sys.executable, "-m", "shield", "up"),
        cwd=ROOT,
        env={**os.environ, "SHIELD_HOME": str(stack.home)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert second.returncode == 2
    assert "a stack is already up on" in second.stderr

    old = note["children"]["scan"]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: stack.note()["children"]["scan"] not in (None, old))
    assert "scan was ended by SIGKILL: starting it again in 0.5 s" in stack.said()

    pids = stack.note()["children"].values()
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(PATIENCE) == 0
    assert [pid for pid in pids if not gone(pid)] == []
    assert not (stack.home / "up.json").exists()


def test_given_a_second_start_then_no_key_is_shown_and_a_script_gets_one_in_a_file(
    up: Callable[..., Up], tmp_path: Path
) -> None:
    key_file = tmp_path / "key"
    first = up("--key-file", str(key_file))
    first.wait_until_ready()
    key = key_file.read_text()
    assert re.fullmatch(r"dfs_live_[0-9A-Za-z]{36}", key)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert key not in first.said()
    answer = httpx.get(f"{first.note()['url']}/v1/jobs", headers={"Authorization": f"Bearer {key}"})
    assert answer.json()["data"] == []
    first.end()
    again = up()
    again.wait_until_ready()
    assert "API key" not in again.said()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children when their parent is killed")
def test_given_a_supervisor_that_is_killed_then_no_child_outlives_it(up: Callable[..., Up]) -> None:
    stack = up()
    stack.wait_until_ready()
    pids = stack.note()["children"].values()
    stack.process.kill()
    wait_until(lambda: all(gone(pid) for pid in pids))


def test_given_a_terminal_that_is_closed_then_the_stack_stops_whole(up: Callable[..., Up]) -> None:
    stack = up()
    stack.wait_until_ready()
    pids = stack.note()["children"].values()
    stack.process.send_signal(signal.SIGHUP)
    assert stack.process.wait(PATIENCE) == 0
    assert [pid for pid in pids if not gone(pid)] == []


def test_given_a_leash_when_nobody_holds_it_any_more_then_the_stack_stops_whole(up: Callable[..., Up]) -> None:
    stack = up("--while-stdin")
    stack.wait_until_ready()
    pids = stack.note()["children"].values()
    assert stack.process.stdin is not None
    stack.process.stdin.close()
    assert stack.process.wait(PATIENCE) == 0
    assert [pid for pid in pids if not gone(pid)] == []


def test_given_no_room_for_up_json_and_logs_when_a_child_dies_then_the_stack_goes_on(up: Callable[..., Up]) -> None:
    stack = up()
    stack.wait_until_ready()
    scan = stack.note()["children"]["scan"]
    logs, aside = stack.home / "logs", stack.home / "aside"
    in_the_way = stack.home / "up.new"
    in_the_way.mkdir()
    logs.rename(aside)
    os.kill(scan, signal.SIGKILL)
    wait_until(lambda: "scan cannot be started" in stack.said())
    aside.rename(logs)
    wait_until(lambda: "HOME/up.json cannot be written" in stack.said())
    in_the_way.rmdir()
    wait_until(lambda: stack.note()["children"]["scan"] not in (None, scan))
    assert stack.process.poll() is None
    assert stack.said().count("cannot be") == 2


def test_given_a_worker_that_cannot_live_then_the_stack_says_why(up: Callable[..., Up], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('as where it is not installed', name='torch')")
    stack = up(SHIELD_ENGINE="torch", PYTHONPATH=str(tmp_path))
    wait_until(lambda: "scan ended with exit code 2 (worker scan: the torch engine needs torch: " in stack.said())


def test_given_a_start_that_fails_then_no_key_is_made_that_nobody_sees(up: Callable[..., Up]) -> None:
    first = up()
    wait_until((first.home / "up.json").exists)
    first.process.kill()
    first.process.wait()
    if "API key" in first.said():
        pytest.fail("the stack was up before it could be killed")
    again = up()
    again.wait_until_ready()
    assert "API key, shown this once" in again.said()


def test_given_a_home_that_exists_then_its_mode_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_home(tmp_path)
    make_home(tmp_path / "new")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("command", "env", "words"),
    [
        ("up", {"SHIELD_HOME": "{tmp}/file"}, "file cannot be used (File exists): set SHIELD_HOME"),
        ("up", {"SHIELD_HOME": "/proc/none"}, "/proc/none cannot be used"),
        ("up", {"SHIELD_DATABASE_URL": "nonsense"}, "SHIELD_DATABASE_URL is no URL of a database"),
        ("up --key-file {tmp}/none/key", {}, "the key cannot be written to {tmp}/none/key"),
        ("key", {}, "start the system once"),
        ("link", {}, "start the system once"),
    ],
)
def test_given_what_cannot_work_then_one_sentence_says_why(
    tmp_path: Path, command: str, env: dict[str, str], words: str
) -> None:
    (tmp_path / "file").write_text("")
    ended = subprocess.run(
        (sys.executable, "-m", "shield", *command.format(tmp=tmp_path).split()),
        cwd=ROOT,
        env=os.environ
        | {"SHIELD_HOME": str(tmp_path / "home"), "SHIELD_PORT": "0"}
        | {name: value.format(tmp=tmp_path) for name, value in env.items()},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert words.format(tmp=tmp_path) in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


def test_given_several_scan_workers_then_each_has_its_share_of_the_cores(tmp_path: Path) -> None:
    stack = Stack(Settings(home=tmp_path / "home", port=0, scan_workers=3), say=print)
    shares = {child.name: child._line[-1] for child in stack._plan(tmp_path) if "scan" in child.name}
    assert shares == {"scan": "1/3", "scan-2": "2/3", "scan-3": "3/3"}


def test_given_a_port_that_is_taken_then_the_error_names_the_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"cannot listen on 127\.0\.0\.1 port {port} .*: set SHIELD_PORT"):
            Stack(Settings(home=tmp_path, port=port), print)


def child(tmp_path: Path, program: str, patience: float = 10.0) -> Child:
    return Child("program", (sys.executable, "-c", program), dict(os.environ), tmp_path / "program.log", patience)


def test_a_child_that_ends_is_started_again_after_a_pause_that_grows(tmp_path: Path) -> None:
    failing = child(tmp_path, "print('words', flush=True); raise SystemExit(3)")
    failing.start()
    said: list[str] = []

    def look() -> bool:
        words = failing.watch()[1]
        if words:
            said.append(words)
        return len(said) == 3

    wait_until(look)
    log = tmp_path / "program.log"
    assert said == [
        f"program ended with exit code 3 (words): starting it again in {pause} s. Its log: {log}"
        for pause in ("0.5", "1", "2")
    ]
    assert log.read_text() == "words\n" * 3
    assert failing.pid is None


def test_a_child_that_does_not_stop_is_killed_with_what_it_started(tmp_path: Path) -> None:
    stubborn = child(
        tmp_path,
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print(other.pid, flush=True); time.sleep(600)",
        patience=0.5,
    )
    stubborn.start()
    pid, log = stubborn.pid, tmp_path / "program.log"
    assert pid is not None
    wait_until(lambda: log.read_text().endswith("\n"))
    stubborn.stop(hurried=lambda: False)
    wait_until(lambda: gone(pid) and gone(int(log.read_text())))


def test_a_hurried_stop_does_not_wait(tmp_path: Path) -> None:
    stubborn = child(
        tmp_path,
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
        patience=600,
    )
    stubborn.start()
    wait_until((tmp_path / "program.log").read_text)
    stubborn.stop(hurried=lambda: True)
    assert stubborn.pid is None


def test_a_log_that_has_grown_makes_room_for_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shield.supervisor.LOG_BYTES", 5)
    (tmp_path / "program.log").write_text("long ago\n")
    talker = child(tmp_path, "print('now')")
    talker.start()
    wait_until((tmp_path / "program.log").read_text)
    talker.stop(hurried=lambda: False)
    assert (tmp_path / "program.log.1").read_text() == "long ago\n"
    assert (tmp_path / "program.log").read_text() == "now\n"
