"""The pipeline level: images a second of the scanner, beside the reference and beside its own limit.

For each kind of photo, turn by turn: the scanner, its limit (benchmarks.bench.scanning), the reference
(benchmarks.bench.reference). Ratios are within a round; what is reported is their median.
"""

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.bench import finding
from benchmarks.bench.contender import Contender, contending
from benchmarks.bench.effort import Effort, progress
from benchmarks.bench.photos import BAR_KIND, Kind, photos_of
from training.bars import Bar

Round = dict[str, dict[str, float]]  # what each of the three answered


def measure(effort: Effort) -> tuple[dict[str, Any], list[Bar]]:
    """The record and its bars."""
    rows = []
    with ExitStack() as stack:
        shield, reference = (stack.enter_context(contending(name)) for name in ("shield", "reference"))
        reference.ask("scan", photos=[str(photos_of(BAR_KIND)[0])])  # warms up
        for kind in effort.kinds:
            progress(f"pipeline level, {kind.name}")
            paths = photos_of(kind)[: effort.large_photos if kind.size == "12 MP" else effort.photos]
            times = effort.bar_rounds if kind == BAR_KIND else effort.rounds
            shield.ask("limit", photos=[str(path) for path in paths])  # warms up, and finds the batches
            rounds = [_round(shield, reference, paths, _some(paths, effort, number)) for number in range(times)]
            rows.append(_row(kind, rounds))
    detectors, bars = finding.measure(effort)
    bar_row = next(row for row in rows if row["kind"] == BAR_KIND.name)
    bars += [
        Bar("pipeline_over_reference", bar_row["over_reference"], 4.0, aim=6.0),
        Bar("pipeline_of_limit", bar_row["of_limit"], 0.75, aim=0.85),
    ]
    return {"kinds": rows, "detectors": detectors}, bars


def _some(paths: Sequence[Path], effort: Effort, number: int) -> list[Path]:
    """Those that the reference is given in this round: it is slow."""
    count = min(effort.reference_photos, len(paths))
    return [paths[(number * count + place) % len(paths)] for place in range(count)]


def _round(shield: Contender, reference: Contender, paths: Sequence[Path], some: Sequence[Path]) -> Round:
    photos = [str(path) for path in paths]
    return {
        "shield": shield.ask("scan", photos=photos),
        "limit": shield.ask("limit", photos=photos),
        "reference": reference.ask("scan", photos=[str(path) for path in some]),
    }


def _row(kind: Kind, rounds: Sequence[Round]) -> dict[str, Any]:
    def rate(name: str, number: int) -> float:
        return rounds[number][name]["images"] / rounds[number][name]["seconds"]

    def median(name: str) -> float:
        return statistics.median(rate(name, number) for number in range(len(rounds)))

    def ratio(name: str) -> float:
        return statistics.median(rate("shield", number) / rate(name, number) for number in range(len(rounds)))

    def processor(name: str) -> float:
        return statistics.median(1000 * one[name]["processor"] / one[name]["images"] for one in rounds)

    first = rounds[0]
    return {
        "kind": kind.name,
        "size": kind.size,
        "faces": kind.faces,
        "faces_found": first["shield"]["faces"] / first["shield"]["images"],
        "images_per_second": median("shield"),
        "limit_images_per_second": median("limit"),
        "reference_images_per_second": median("reference"),
        "of_limit": ratio("limit"),
        "over_reference": ratio("reference"),
        "processor_ms_per_image": processor("shield"),
        "reference_processor_ms_per_image": processor("reference"),
        "decode_share_of_limit": statistics.median(one["limit"]["decode"] / one["limit"]["seconds"] for one in rounds),
    }
