"""Tracking against MLRun itself, in a process of its own: MLRun keeps its connection for as long as a process lives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def said(tmp_path: Path) -> list[str]:
    """What a script that tracks three runs prints, line by line."""
    script = """
from pathlib import Path
from matplotlib import pyplot as plt
from training import track

with track.run("first", {"colour": "blue"}) as run:
    run.log_result("auc", 0.5)
    track.log_plot(run, "picture", plt.figure())
    track.log_table(run, "table", [{"a": 1, "b": 2}, {"a": 3, "b": 4}])
try:
    with track.run("second") as run:
        raise ValueError("out of paint")
except ValueError:
    pass
def point(context, a, b):
    context.log_result("loss", a * b)
    context.log_result("auc", a + b)
table, best = track.grid("grid", point, {"a": [3, 1, 2], "b": [0.5, 0.1]}, "min.loss", Path("out"))
print(best)
table, best = track.grid("grid", point, {"a": [3, 1, 2], "b": [0.5, 0.1]}, "max.auc", Path("out"))
print(best, len(table))
"""
    tracked = _run([sys.executable, "-c", script], tmp_path)
    listed = _run([sys.executable, "-m", "training", "runs"], tmp_path)
    whole = _run([sys.executable, "-m", "training", "runs", "--json", "--name", "first"], tmp_path)
    return [*tracked.splitlines(), *listed.splitlines(), whole]


def _run(command: list[str], folder: Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLRUN")}
    env |= {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_runs_are_kept_and_listed_and_a_grid_finds_its_best_point(said: list[str], tmp_path: Path) -> None:
    best_by_loss, best_by_auc, grid_by_auc, _, second, first, whole = said
    assert best_by_loss == "{'a': 1, 'b': 0.1}"
    assert best_by_auc == "{'a': 3, 'b': 0.5} 7"
    assert "best_iteration" in grid_by_auc
    assert "second" in second
    assert "error" in second
    assert "auc 0.5000" in first
    assert "kept: " in first
    assert "picture" in first
    stored = json.loads(whole)
    assert stored["status"]["state"] == "completed"
    assert stored["spec"]["parameters"] == {"colour": "blue"}
    kinds = [json.loads(path.read_text())["kind"] for path in tmp_path.glob("var/mlrun/artifacts/*/*picture*.json")]
    assert kinds == ["plot"]
    tables = list(tmp_path.rglob("table.csv"))
    assert [table.read_text().split() for table in tables] == [["a,b", "1,2", "3,4"]]


def test_without_any_run_the_list_says_how_to_make_one(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "training", "runs"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no tracked run yet" in done.stderr
