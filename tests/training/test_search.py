from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest

from training.config import TrainConfig
from training.search import GRID, at_point, measured, parallel_coordinates

mpl.use("Agg")


def test_the_default_grid_has_at_least_twelve_points_of_three_parameters(config: TrainConfig) -> None:
    points = 1
    for name, values in GRID.items():
        points *= len(values)
        assert len({at_point(config, 64, {name: value}) for value in values}) == len(values) > 1
    assert points >= 12
    assert len(GRID) >= 3


def test_blending_scales_both_kinds_of_blends(config: TrainConfig) -> None:
    source = replace(config.sources[0], blend=2.0, cross=1.0)
    point = at_point(replace(config, sources=(source,)), 64, {"blending": 0.5, "peak_rate": 1e-3})
    assert (point.sources[0].blend, point.sources[0].cross, point.sources[0].real) == (1.0, 0.5, source.real)
    assert (point.peak_rate, point.images) == (1e-3, 64)


def test_a_point_is_trained_once(config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = at_point(config, 160, {"peak_rate": 1e-3})
    first = measured(short, tmp_path)
    assert "step 20/20" in capsys.readouterr().err
    assert first["loss"] > 0
    assert 0 <= first["auc"] <= 1
    assert measured(short, tmp_path) == first
    assert "step" not in capsys.readouterr().err


def test_a_parameter_that_a_config_does_not_have_is_refused(config: TrainConfig) -> None:
    with pytest.raises(TypeError, match="colour"):
        at_point(config, 64, {"colour": 1})


def test_the_picture_shows_every_point(tmp_path: Path) -> None:
    table = [["iter", "param.a", "param.b", "output.loss"], [1, 1, 5, 0.7], [2, 2, 5, 0.6]]
    figure = parallel_coordinates(table, ["a", "b"], tmp_path / "search.png")
    assert len([line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]) == 2
    assert (tmp_path / "search.png").stat().st_size > 1000
