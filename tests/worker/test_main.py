"""`python -m worker`: what it says before it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shield import logs
from shield.settings import Settings
from worker import __main__ as command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("allowed", [True, False])
def test_a_worker_that_may_reach_this_machine_says_so_loudly(
    allowed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["worker", "house"])
    monkeypatch.setattr(command, "settings", lambda: Settings(egress_allow_loopback=allowed))
    monkeypatch.setattr(command, "house", lambda _: 0)
    monkeypatch.setattr(logs, "set_up", lambda *_: None)
    assert command.main() == 0
    assert ("SHIELD_EGRESS_ALLOW_LOOPBACK IS ON" in caplog.text) == allowed


TAKE = """
import os, sys
from worker.__main__ import _take_share
print(_take_share(int(sys.argv[1]), int(sys.argv[2])), *sorted(os.sched_getaffinity(0)))
"""


def taken(number: int, of: int) -> tuple[int, list[int]]:
    """The threads and the cores of a process with this share."""
    line = [sys.executable, "-c", TAKE, str(number), str(of)]
    threads, *cores = map(int, subprocess.check_output(line, cwd=ROOT, text=True).split())
    return threads, cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be pinned here")
def test_workers_that_share_the_cores_have_each_cores_of_their_own() -> None:
    usable = sorted(os.sched_getaffinity(0))
    of = min(2, len(usable))
    shares = [taken(number, of) for number in range(1, of + 1)]
    assert [threads for threads, _ in shares] == [0] * of
    assert [core for _, cores in shares for core in cores] == usable
    assert max(len(cores) for _, cores in shares) - min(len(cores) for _, cores in shares) <= 1
    assert taken(1, len(usable) + 1) == (1, usable)


@pytest.mark.parametrize("share", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_share_that_is_none_is_refused(
    share: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["worker", "scan", "--share", share])
    with pytest.raises(SystemExit):
        command.main()
    assert "--share" in capsys.readouterr().err
