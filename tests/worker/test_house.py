"""The house chores: one leader, and trouble that is logged once."""

import logging
from pathlib import Path

import pytest

from worker.house import Chore, FileLeadership


def test_one_of_two_leads_and_the_other_follows_when_it_has_gone(tmp_path: Path) -> None:
    first, second = FileLeadership(tmp_path / "house.lock"), FileLeadership(tmp_path / "house.lock")
    assert [first.held(), second.held(), first.held()] == [True, False, True]
    del first
    assert second.held()


def test_trouble_is_logged_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    faults = iter([None, OSError("away"), OSError("away"), None, None])

    def work() -> int:
        fault = next(faults)
        if fault is not None:
            raise fault
        return 0

    chore = Chore("relay", 0.0, work)
    for _ in range(5):
        chore.turn()
    assert [record.getMessage() for record in caplog.records] == ["relay waits: OSError: away", "relay works again"]
