"""The keeper ends a process whose scan hangs."""

import subprocess
import sys
from pathlib import Path

from worker.keeper import STUCK

HANGING = """
import sys, threading
from shield.db import Database
from worker.keeper import Keeper
with Keeper(Database(sys.argv[1]), seconds=0.1).watching(patience=0.2):
    threading.Event().wait()
"""


def test_a_process_whose_scan_does_not_advance_ends_itself(tmp_path: Path) -> None:
    line = [sys.executable, "-c", HANGING, f"sqlite:///{tmp_path / 'shield.db'}"]
    ended = subprocess.run(line, cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == STUCK
    assert "has not advanced" in ended.stderr
