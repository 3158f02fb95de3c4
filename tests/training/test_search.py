import csv
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from training.config import SourceConfig, TrainConfig, load_config
from training.data import DataError
from training.search import GRID, at_point, check, measured, parallel_coordinates

mpl.use("Agg")

ROOT = Path(__file__).parents[2]


def search(
    folder: Path, config: TrainConfig, grid: dict[str, list[Any]], *words: str
) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own: MLRun keeps its connection for as long as a process lives."""
    (folder / "config.json").write_text(config.as_json())
    (folder / "grid.json").write_text(json.dumps(grid))
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLRUN")}
    command = [sys.executable, "-m", "training", "search", "--config", "config.json", "--grid", "grid.json"]
    return subprocess.run(
        [*command, "--out", "out", "--crops", "16", *words],
        cwd=folder,
        env=env | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_best_point_by_loss_and_by_auc_becomes_a_config_to_train(config: TrainConfig, tmp_path: Path) -> None:
    grid: dict[str, list[Any]] = {"peak_rate": [1e-4, 3e-3], "label_smoothing": [0.0, 0.3]}
    done = search(tmp_path, config, grid, "--input-size", "32")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out" / "results.csv")
    assert len(rows) == 4
    least = min(rows, key=lambda row: float(row["output.loss"]))
    best = load_config(tmp_path / "out" / "best.json")
    assert (best.peak_rate, best.label_smoothing) == (
        float(least["param.peak_rate"]),
        float(least["param.label_smoothing"]),
    )
    assert replace(best, peak_rate=config.peak_rate, label_smoothing=config.label_smoothing) == config

    for point in (tmp_path / "out" / "points").iterdir():  # what was measured stands: nothing is trained again
        known = json.loads(point.read_text())
        point.write_text(json.dumps(known | {"auc": known["loss"] / 10}))
    again = search(tmp_path, config, grid, "--input-size", "32", "--by", "max.auc")
    assert again.returncode == 0, again.stderr
    most = max(rows, key=lambda row: float(row["output.loss"]))
    assert [row["output.loss"] for row in rows_of(tmp_path / "out" / "results.csv")] == [r["output.loss"] for r in rows]
    best = load_config(tmp_path / "out" / "best.json")
    assert (best.peak_rate, best.label_smoothing) == (
        float(most["param.peak_rate"]),
        float(most["param.label_smoothing"]),
    )


def test_a_point_that_fails_is_named(config: TrainConfig, tmp_path: Path) -> None:
    done = search(tmp_path, config, {"colour": [1]})
    assert done.returncode == 2
    assert "the first with {'colour': 1}" in done.stderr.splitlines()[-1]


def test_data_without_fakes_is_refused_before_a_point_is_tried(config: TrainConfig, tmp_path: Path) -> None:
    source = replace(config.sources[0], fake=0)
    with pytest.raises(DataError, match="no source with fakes"):
        check(replace(config, sources=(source,)))
    with pytest.raises(DataError, match=r"gone\.csv cannot be read"):
        check(replace(config, sources=(SourceConfig("gone.csv", "gone", 1, 1, 0),)))


def test_the_default_grid_has_at_least_twelve_points_of_three_parameters(config: TrainConfig) -> None:
    points = 1
    for name, values in GRID.items():
        points *= len(values)
        assert len({at_point(config, {name: value}) for value in values}) == len(values) > 1
    assert points >= 12
    assert len(GRID) >= 3


def test_the_committed_table_holds_every_point_of_the_grid() -> None:
    rows = rows_of(ROOT / "docs" / "search" / "results.csv")
    points = {tuple(float(row[f"param.{name}"]) for name in GRID) for row in rows}
    assert points == set(itertools.product(*GRID.values()))
    assert all(float(row["output.loss"]) > 0 and 0 < float(row["output.auc"]) < 1 for row in rows)


def test_blending_scales_both_kinds_of_blends(config: TrainConfig) -> None:
    source = replace(config.sources[0], blend=2.0, cross=1.0)
    point = at_point(replace(config, sources=(source,)), {"blending": 0.5, "peak_rate": 1e-3})
    assert (point.sources[0].blend, point.sources[0].cross, point.sources[0].real) == (1.0, 0.5, source.real)
    assert (point.peak_rate, point.images) == (1e-3, config.images)


def test_a_point_is_trained_once(config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = at_point(replace(config, images=160), {"peak_rate": 1e-3})
    first = measured(short, tmp_path)
    assert "step 20/20" in capsys.readouterr().err
    assert first["loss"] > 0
    assert 0 <= first["auc"] <= 1
    assert measured(short, tmp_path) == first
    assert "step" not in capsys.readouterr().err


def test_a_parameter_that_a_config_does_not_have_is_refused(config: TrainConfig) -> None:
    with pytest.raises(TypeError, match="colour"):
        at_point(config, {"colour": 1})


def test_the_picture_shows_every_point(tmp_path: Path) -> None:
    table: list[list[Any]] = [["iter", "param.a", "param.b", "output.loss"], [1, 1, 5, 0.7], [2, 2, 5, 0.6]]
    figure = parallel_coordinates(table, ["a", "b"], tmp_path / "search.png")
    assert len([line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]) == 2
    assert (tmp_path / "search.png").stat().st_size > 1000
