"""The benchmark of confinement at a tiny size: it runs to its end and prints its bar."""

import subprocess
import sys

import pytest

from benchmarks.decoding import ROOT


@pytest.mark.slow
def test_it_prints_the_cost_of_confinement() -> None:
    line = (sys.executable, "-m", "benchmarks.decoding", "--rounds", "1", "--copies", "1")
    ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr  # one round holds no bar
    assert "bar throughput_cost" in ran.stdout
