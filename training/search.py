"""Search hyper-parameters: `python -m training search --config FILE --out FOLDER`.

A grid under MLRun: each point is a short training from the config's own start, compared by its loss (or AUC) on fixed
validation crops. The table, a parallel-coordinates picture and the best point as a config for `train` stay in OUT. A
point that was measured once is not trained again, so a search that was cut short goes on.
"""

import argparse
import csv
import hashlib
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.classifier import prepare
from training import track
from training.batches import batches, open_pools
from training.config import TrainConfig, load_config
from training.data import DataError
from training.train import MEAN, STD, start, steps, validate

GRID: dict[str, list[Any]] = {
    "peak_rate": [2e-4, 6e-4, 1.2e-3],
    "label_smoothing": [0.0, 0.04],
    "blending": [0.5, 1.5],  # how often blends are drawn, against the config
}
CROPS = 2000
STATISTICS_BATCHES = 8
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}  # behind the figures on an axis

FloatArray = NDArray[np.float64]


def at_point(config: TrainConfig, point: dict[str, Any]) -> TrainConfig:
    """The config with a point's parameters. `blending` multiplies the shares of both kinds of blends.

    Raises TypeError for a parameter that a config does not have.
    """
    fields = dict(point)
    factor = fields.pop("blending", 1.0)
    sources = tuple(replace(s, blend=s.blend * factor, cross=s.cross * factor) for s in config.sources)
    return replace(config, sources=sources, **fields)


def check(config: TrainConfig) -> None:
    """Raise DataError where no point could be trained or compared, before the first one is tried."""
    open_pools(config, "train")
    if {pool.kind for pool in open_pools(config, "val")}.isdisjoint({"fake"}):
        raise DataError("no source with fakes: their validation crops are what points are compared on")


def search(
    config: TrainConfig,
    out: Path,
    crops: int,
    grid: dict[str, list[Any]],
    selector: track.Selector = "min.loss",
    input_size: int | None = None,
) -> Path:
    """Run the grid, each point on at least so many crops of `input_size` pixels (default: the config's).

    Returns the path of the best point's config, which is as long as the one given and of its size. Raises DataError for
    data that cannot be used, TypeError for an unknown parameter, RuntimeError where a point failed.
    """
    check(config)
    out.mkdir(parents=True, exist_ok=True)
    whole_batches = -(-crops // config.batch) * config.batch
    short = replace(config, images=whole_batches, input_size=input_size or config.input_size)
    total = int(np.prod([len(values) for values in grid.values()]))
    began: list[dict[str, Any]] = []

    def point(context: track.Run, **parameters: Any) -> None:
        began.append(parameters)
        sys.stderr.write(f"point {len(began)}/{total}: {parameters}\n")
        for key, value in measured(at_point(short, parameters), out).items():
            context.log_result(key, value)

    table, best = track.grid("search", point, grid, selector, out / "mlrun")
    with (out / "results.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    with track.run("search-picture", {"points": total, "crops": crops, "selector": selector}) as run:
        track.log_plot(run, "parallel_coordinates", parallel_coordinates(table, list(grid), out / "search.png"))
        for key, value in best.items():
            run.log_result(key, value)
    (out / "best.json").write_text(at_point(config, best).as_json() + "\n", encoding="utf-8")
    return out / "best.json"


def measured(config: TrainConfig, out: Path) -> dict[str, float]:
    """Validation loss and AUC after a short training of this config, from OUT where it was measured before."""
    key = hashlib.sha256(config.as_json().encode()).hexdigest()[:16]
    known = out / "points" / f"{key}.json"
    if known.exists():
        stored: dict[str, float] = json.loads(known.read_text(encoding="utf-8"))
        return stored
    state = start(config)
    for _ in steps(config, state):
        pass
    refresh(state.average, config)
    figures = validate(state.average, config, open_pools(config, "val"))
    aucs = [value for name, value in figures.items() if name.startswith("auc_")]
    found = {"loss": figures["loss"], "auc": float(np.mean(aucs)), **figures}
    known.parent.mkdir(exist_ok=True)
    partial = known.with_suffix(".partial")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.replace(known)
    return found


def refresh(model: nn.Module, config: TrainConfig) -> None:
    """Measure batch normalisation's statistics anew, over a few training batches.

    The running ones move by 1 % a batch: after a short training they are still ImageNet's for the most part, and the
    loss on validation crops would tell little else.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    with torch.no_grad():
        for pixels, _ in itertools.islice(batches(config, open_pools(config, "train"), 0), STATISTICS_BATCHES):
            model(prepare(pixels.to(config.device), MEAN, STD).contiguous(memory_format=torch.channels_last))
    model.eval()


def parallel_coordinates(table: list[list[Any]], names: list[str], path: Path) -> Any:
    """A line a point through its parameters to its validation loss, the best one marked; also written to `path`.

    Points that share a value pass side by side, the better the lower. A point whose loss is no number is left out.
    """
    from matplotlib import pyplot as plt

    columns = [f"param.{name}" for name in names] + ["output.loss"]
    rows = [[float(row[table[0].index(column)]) for column in columns] for row in table[1:]]
    values = np.array(sorted((row for row in rows if np.isfinite(row[-1])), key=lambda row: row[-1]))
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    axes.set_axis_off()
    places = np.zeros_like(values)
    for number, column in enumerate(columns):
        places[:, number], marks = _along(values[:, number], spread=number < len(names))
        axes.plot([number, number], [-0.08, 1.08], color="#bbbbbb", linewidth=0.8, zorder=0)
        for place, text in marks:
            aside, align = (-0.04, "right") if number < len(names) else (0.04, "left")
            axes.text(number + aside, place, text, fontsize=9, ha=align, va="center", zorder=9, bbox=PAPER)
        axes.text(number, -0.17, column.split(".", 1)[1].replace("_", " "), ha="center", fontsize=10, weight="bold")
    axes.text(len(names), -0.25, "on validation, lower is better", ha="center", fontsize=8, color="#666666")
    shades = plt.get_cmap("viridis")(places[:, -1] * 0.9)
    for place, shade in zip(places[:0:-1], shades[:0:-1], strict=True):  # the better ones on top
        axes.plot(place, color=shade, linewidth=1.5)
    axes.plot(places[0], color="#D55E00", linewidth=3, label="the best point")
    axes.set(xlim=(-0.3, len(names) + 0.35), ylim=(-0.3, 1.1))
    axes.legend(loc="lower left", fontsize=9, frameon=False)
    figure.savefig(path, dpi=110)
    return figure


def _along(values: FloatArray, spread: bool) -> tuple[FloatArray, list[tuple[float, str]]]:
    """Places [N] in 0..1 of a column's values [N], and its marks as (place, text).

    `spread`: the column's few values stand at equal distances, and rows that share one lie side by side.
    """
    if not spread:
        low, high = values.min(), values.max()
        marks = [(t, f"{low + t * (high - low):.3f}") for t in (0.0, 0.5, 1.0)]
        return (values - low) / (high - low or 1), marks
    known = np.unique(values)
    at = np.linspace(0, 1, len(known)) if len(known) > 1 else np.array([0.5])
    place = at[np.searchsorted(known, values)]
    for value in known:
        same = np.flatnonzero(values == value)
        place[same] += (np.arange(len(same)) - (len(same) - 1) / 2) * 0.026
    return place, [(float(t), f"{value:g}") for t, value in zip(at, known, strict=True)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--config", type=Path, required=True, help="settings as JSON (training/configs/)")
    parser.add_argument("--out", type=Path, required=True, help="folder for table, picture and best.json")
    parser.add_argument(
        "--grid", type=Path, help="JSON: parameter -> list of values (default: 12 points, see the code)"
    )
    parser.add_argument("--crops", type=int, default=CROPS, help="crops that each point sees at least (default: 2000)")
    parser.add_argument("--by", choices=("min.loss", "max.auc"), default="min.loss", help="on validation crops")
    parser.add_argument("--input-size", type=int, help="train the points at another size, in pixels")


def main(args: argparse.Namespace) -> int:
    """Run the command; 2 when config, grid or data cannot be used, or a point failed."""
    try:
        config = load_config(args.config)
        grid = json.loads(args.grid.read_text(encoding="utf-8")) if args.grid else GRID
        best = search(config, args.out, args.crops, grid, args.by, args.input_size)
    except (DataError, OSError, RuntimeError, TypeError, ValueError) as error:
        sys.stderr.write(f"{args.config}: {error}\n")
        return 2
    sys.stdout.write(f"{(args.out / 'results.csv').read_text(encoding='utf-8')}best point: {best}\n")
    return 0
