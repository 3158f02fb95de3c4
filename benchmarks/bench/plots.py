"""Plots of a record: `python -m benchmarks.bench.plots RECORD.json FOLDER`, in the training environment."""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

COLOURS = {"scanner": "#2b6cb0", "limit": "#a0aec0", "reference": "#dd6b20"}
STAGES = {"networks": "#2b6cb0", "JPEG decode": "#dd6b20"}
OTHER_STAGE = "#718096"
LEAST_SHARE = 0.003  # of the width of the picture: narrower parts are not drawn
NAMED_SHARE = 0.04


def pipeline(record: dict[str, Any], out: Path) -> None:
    """Images a second by kind: scanner, limit, reference."""
    kinds = record["kinds"]
    figure, axes = plt.subplots(figsize=(10, 4.5))
    for place, (who, colour) in enumerate(COLOURS.items()):
        name = "images_per_second" if who == "scanner" else f"{who}_images_per_second"
        at = [number + (place - 1) * 0.27 for number in range(len(kinds))]
        axes.bar(at, [row[name] for row in kinds], 0.27, label=who, color=colour)
    axes.set_xticks(range(len(kinds)), [row["kind"] for row in kinds], rotation=30, ha="right")
    axes.set_yscale("log")
    axes.set_ylabel("images a second")
    axes.set_title("The scanner beside its limit and a plain reference")
    axes.legend()
    _save(figure, out)


def model(record: dict[str, Any], out: Path) -> None:
    """Share of the matrix product's rate by network, engine and batch."""
    networks = list(dict.fromkeys(row["network"] for row in record["rows"]))
    figure, panels = plt.subplots(1, len(networks), figsize=(10, 3.6), sharey=True)
    for axes, network in zip(panels, networks, strict=True):
        lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for row in record["rows"]:
            if row["network"] == network:
                lines[row["engine"]].append((row["batch"], row["of_peak"]))
        for engine, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=engine)
        axes.set_title(network)
        axes.set_xlabel("batch")
        axes.set_xscale("log", base=2)
    panels[0].set_ylabel("of the cores' matrix product")
    panels[0].set_ylim(bottom=0)
    panels[0].legend()
    _save(figure, out)


def flame(stacks: dict[str, float], out: Path) -> None:
    """CPU time by stack of functions: the width of a part is its share, what it calls stands on it."""
    from benchmarks.bench.stages import stage_of

    figure, axes = plt.subplots(figsize=(12, 5))
    deepest = 0

    def draw(below: str, left: float, depth: int, found: dict[str, float]) -> None:
        nonlocal deepest
        parts: dict[str, dict[str, float]] = defaultdict(dict)
        for where, share in found.items():
            if where != below:
                rest = where[len(below) + 1 :] if below else where
                parts[rest.partition(";")[0]][where] = share
        for name, members in sorted(parts.items(), key=lambda part: -sum(part[1].values())):
            width = sum(members.values())
            if width < LEAST_SHARE:
                continue
            here = f"{below};{name}" if below else name
            axes.barh(depth, width, 0.95, left, color=STAGES.get(stage_of(here), OTHER_STAGE), edgecolor="white")
            if width > NAMED_SHARE:
                words = name.rpartition("/")[2][: max(3, int(width * 190))]
                axes.text(left + width / 2, depth, words, ha="center", va="center", fontsize=6, color="white")
            deepest = max(deepest, depth)
            draw(here, left, depth + 1, members)
            left += width

    draw("", 0.0, 0, stacks)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, deepest + 0.6)
    axes.set_yticks([])
    axes.set_xlabel("share of a worker's CPU time")
    axes.set_title("Where a scan worker's CPU time goes: networks blue, JPEG decode orange, all else grey")
    _save(figure, out)


def memory(values: list[float], out: Path) -> None:
    """A worker's memory along the long run."""
    figure, axes = plt.subplots(figsize=(8, 3))
    axes.plot(values)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("MiB")
    axes.set_xlabel("time")
    axes.set_title("A scan worker's memory along the long job")
    _save(figure, out)


def _save(figure: Any, out: Path) -> None:
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    plt.close(figure)


def main(record: Path, folder: Path) -> None:
    """Draw what was measured."""
    found = json.loads(record.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    if "model" in found:
        model(found["model"], folder / "performance-model.png")
    if "pipeline" in found:
        pipeline(found["pipeline"], folder / "performance-pipeline.png")
    if "system" in found:
        flame(found["system"]["stacks"], folder / "performance-flame.png")
    if "long" in found:
        memory(found["long"]["worker_mib"], folder / "performance-memory.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
