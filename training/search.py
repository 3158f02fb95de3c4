"""Search hyper-parameters: `python -m training search --config FILE --out FOLDER`.

A grid under MLRun: each point is a short training from the config's own start, compared by its loss (or AUC) on fixed
validation crops. The table, a parallel-coordinates picture and the best point as a config for `train` stay in OUT. A
point that was measured once is not trained again, so a search that was cut short goes on.
"""

import argparse
import csv
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from training import track
from training.batches import open_pools
from training.config import TrainConfig, load_config
from training.data import DataError
from training.train import start, steps, validate

GRID: dict[str, list[Any]] = {
    "peak_rate": [2e-4, 6e-4, 1.2e-3],
    "label_smoothing": [0.0, 0.04],
    "blending": [0.5, 1.5],  # how often blends are drawn, against the config
}
CROPS = 2000


def at_point(config: TrainConfig, crops: int, point: dict[str, Any]) -> TrainConfig:
    """The config with a point's parameters, short. `blending` multiplies the shares of both kinds of blends."""
    fields = dict(point)
    factor = fields.pop("blending", 1.0)
    sources = tuple(replace(s, blend=s.blend * factor, cross=s.cross * factor) for s in config.sources)
    return replace(config, sources=sources, images=crops, validate_every=10**9, checkpoint_every=10**9, **fields)


def search(config: TrainConfig, out: Path, crops: int, grid: dict[str, list[Any]], selector: track.Selector) -> Path:
    """Run the grid; returns the path of the best point's config."""
    out.mkdir(parents=True, exist_ok=True)
    total = int(np.prod([len(values) for values in grid.values()]))
    began: list[dict[str, Any]] = []

    def point(context: track.Run, **parameters: Any) -> None:
        began.append(parameters)
        sys.stderr.write(f"point {len(began)}/{total}: {parameters}\n")
        for key, value in measured(at_point(config, crops, parameters), out).items():
            context.log_result(key, value)

    # MLRun gives a handler the arguments that its signature names
    point.__signature__ = _signature(list(grid))  # type: ignore[attr-defined]
    table, best = track.grid("search", point, grid, selector, out / "mlrun")
    with (out / "results.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    with track.run("search-picture", {"points": total, "crops": crops, "selector": selector}) as run:
        track.log_plot(run, "parallel_coordinates", parallel_coordinates(table, list(grid), out / "search.png"))
        for key, value in best.items():
            run.log_result(key, value)
    chosen = at_point(config, config.images, best)
    chosen = replace(chosen, validate_every=config.validate_every, checkpoint_every=config.checkpoint_every)
    (out / "best.json").write_text(chosen.as_json() + "\n", encoding="utf-8")
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
    figures = validate(state.average, config, open_pools(config, "val"))
    aucs = [value for name, value in figures.items() if name.startswith("auc_")]
    found = {"loss": figures["loss"], "auc": float(np.mean(aucs)), **figures}
    known.parent.mkdir(exist_ok=True)
    known.write_text(json.dumps(found), encoding="utf-8")
    return found


def parallel_coordinates(table: list[list[Any]], names: list[str], path: Path) -> Any:
    """A line a point through its parameters to its validation loss, the better the darker; also written to `path`."""
    from matplotlib import pyplot as plt

    columns = [f"param.{name}" for name in names] + ["output.loss"]
    rows = [[row[table[0].index(column)] for column in columns] for row in table[1:]]
    values = np.array(rows, float)
    low, high = values.min(axis=0), values.max(axis=0)
    places = (values - low) / np.where(high > low, high - low, 1)
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for place in places[np.argsort(-values[:, -1])]:  # the best on top
        axes.plot(place, color=plt.get_cmap("viridis")(place[-1]), linewidth=1.6, alpha=0.85)
    for number, column in enumerate(columns):
        axes.axvline(number, color="#999999", linewidth=0.8)
        axes.text(number, -0.09, f"{low[number]:.4g}", ha="center", fontsize=8)
        axes.text(number, 1.04, f"{high[number]:.4g}", ha="center", fontsize=8)
        axes.text(number, -0.19, column.split(".", 1)[1], ha="center", fontsize=9)
    axes.set_axis_off()
    figure.savefig(path, dpi=110)
    return figure


def _signature(names: list[str]) -> Any:
    import inspect

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind) for name in ["context", *names]])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--config", type=Path, required=True, help="settings as JSON (training/configs/)")
    parser.add_argument("--out", type=Path, required=True, help="folder for table, picture and best.json")
    parser.add_argument(
        "--grid", type=Path, help="JSON: parameter -> list of values (default: 12 points, see the code)"
    )
    parser.add_argument("--crops", type=int, default=CROPS, help="crops that each point sees (default: 2000)")
    parser.add_argument("--by", choices=("min.loss", "max.auc"), default="min.loss", help="on validation crops")
    parser.add_argument("--input-size", type=int, help="train the points at another size, in pixels")


def main(args: argparse.Namespace) -> int:
    """Run the command; 2 when config, grid or data cannot be used."""
    try:
        config = load_config(args.config)
        if args.input_size:
            config = replace(config, input_size=args.input_size)
        grid = json.loads(args.grid.read_text(encoding="utf-8")) if args.grid else GRID
        best = search(config, args.out, args.crops, grid, args.by)
    except (DataError, OSError, TypeError, ValueError) as error:
        sys.stderr.write(f"{args.config}: {error}\n")
        return 2
    sys.stdout.write(f"{(args.out / 'results.csv').read_text(encoding='utf-8')}best point: {best}\n")
    return 0
