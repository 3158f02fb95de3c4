"""`python -m worker`: what it says before it starts."""

import sys

import pytest

from shield import logs
from shield.settings import Settings
from worker import __main__ as command


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
