"""The keeper renews leases, whatever happens, and ends a process whose scan hangs."""

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from shield import dispatch
from tests.worker.conftest import House, wait_until
from worker.keeper import STUCK, Keeper

OPEN = """
import sys, threading
from shield.db import Database
from worker.keeper import Keeper
keeper = Keeper(Database(sys.argv[1]), seconds=0.1)
"""
HANGING = """
with keeper.watching(patience=0.2):
    threading.Event().wait()
"""
HANGING_AFTER_ANOTHER = """
with keeper.watching(patience=0.2):
    with keeper.watching(patience=3600.0):
        pass
    threading.Event().wait()
"""


@pytest.mark.parametrize("program", [HANGING, HANGING_AFTER_ANOTHER])
def test_a_process_whose_scan_does_not_advance_ends_itself(tmp_path: Path, program: str) -> None:
    line = [sys.executable, "-c", OPEN + program, f"sqlite:///{tmp_path / 'shield.db'}"]
    ended = subprocess.run(line, cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == STUCK
    assert "has not advanced" in ended.stderr


def test_a_fault_of_ours_while_leases_are_renewed_does_not_end_the_keeper(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = house.submit(b"face 1")
    renew, faults = dispatch.renew, [ValueError("a fault of ours")]

    def fail_once(*args: object) -> set[str]:
        if faults:
            raise faults.pop()
        return renew(*args)  # type: ignore[arg-type]

    def until() -> datetime | None:
        return house.chunks(job)[0].lease_until

    monkeypatch.setattr(dispatch, "renew", fail_once)
    with house.database.write() as session:
        held = dispatch.lease_next(session, 60.0)
    assert held is not None
    leased = until()
    with Keeper(house.database, seconds=4.0).holding([held]):
        wait_until(lambda: until() != leased)
    assert not faults
