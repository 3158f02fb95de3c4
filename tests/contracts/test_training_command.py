"""`python -m training` in an environment without torch: what can run runs, and the rest says what it needs."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["evaluate", "crops", "swap", "check", "import-decisions", "model-card"])
def test_commands_that_only_measure_and_cut_need_no_torch(command: str) -> None:
    answer = run(command, "--help")
    assert answer.returncode == 0, answer.stderr
    assert "usage: python -m training" in answer.stdout


def test_a_command_that_needs_torch_says_where_to_run_it() -> None:
    assert importlib.util.find_spec("torch") is None, "this environment is the one without torch"
    answer = run("train", "--config", "x", "--out", "y")
    assert answer.returncode == 2
    assert answer.stderr == "train needs torch: run it with .venv-training/bin/python, which `make test` makes\n"
