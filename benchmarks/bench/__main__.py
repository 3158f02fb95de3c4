"""How fast the system is, and beside what: `python -m benchmarks.bench [LEVEL]...` (`make bench`).

Levels: model, pipeline, system, growth; `long` is asked for by name. Prints a table, then `bar NAME VALUE TARGET
holds|falls short`. With `--out docs` it writes docs/performance.json, the tables in docs/performance.md and the plots;
what was measured before of other levels stays.
"""

import argparse
import json
import platform
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnxruntime

from benchmarks.bench import growth, model, pipeline, system, table
from benchmarks.bench.contender import ROOT, TRAINING, ContenderError
from benchmarks.bench.effort import FULL, TINY
from benchmarks.bench.networks import TUNING
from benchmarks.bench.photos import NoDataError
from pipeline.engine import usable_cores
from training.bars import Bar

LEVELS = {
    "model": model.measure,
    "pipeline": pipeline.measure,
    "system": system.measure,
    "growth": growth.measure,
    "long": growth.measure_long,
}
USUAL = tuple(level for level in LEVELS if level != "long")


def machine() -> dict[str, Any]:
    """What it ran on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cores": usable_cores(),
        "processor": name or platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def described(bar: Bar) -> dict[str, Any]:
    """A bar as the record keeps it."""
    return asdict(bar) | {"value": float(bar.value), "holds": bar.holds}


def write(record: dict[str, Any], out: Path) -> None:
    """The record, the plots, and the tables between the marks of the page."""
    path = out / "performance.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    subprocess.run([TRAINING, "-m", "benchmarks.bench.plots", path, out / "pictures"], cwd=ROOT, check=True)
    page = out / "performance.md"
    page.write_text(table.filled(page.read_text(encoding="utf-8"), record), encoding="utf-8")


def main() -> int:
    """Run the command; 1 when a bar is not held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument(
        "levels", nargs="*", metavar="LEVEL", help=f"of {', '.join(LEVELS)}; default: {', '.join(USUAL)}"
    )
    parser.add_argument("--images", type=int, default=FULL.long, help="images of the long job")
    parser.add_argument("--tiny", action="store_true", help="show that it runs; no figure means anything")
    parser.add_argument("--out", type=Path, help="the folder of performance.json, performance.md and pictures/")
    args = parser.parse_args()
    if unknown := set(args.levels) - LEVELS.keys():
        parser.error(f"no such level: {', '.join(sorted(unknown))}")
    effort = TINY if args.tiny else replace(FULL, long=args.images)
    before = args.out / "performance.json" if args.out else None
    record: dict[str, Any] = json.loads(before.read_text()) if before and before.exists() else {"bars": {}}
    record |= {"machine": machine(), "rounds": effort.rounds, "bar_rounds": effort.bar_rounds}
    TUNING.unlink(missing_ok=True)
    held: list[Bar] = []
    try:
        for level in args.levels or USUAL:
            record[level], bars = LEVELS[level](effort)
            record["bars"][level] = [described(bar) for bar in bars]
            held += bars
    except (ContenderError, NoDataError) as error:
        print(f"benchmarks.bench: {error}", file=sys.stderr)
        return 2
    print("\n\n".join(found.text() for found in table.tables({k: record[k] for k in args.levels or USUAL})))
    if args.out:
        write(record, args.out)
    print("\n".join(line for bar in held for line in bar.lines()))
    return 0 if all(bar.holds for bar in held) else 1


if __name__ == "__main__":
    sys.exit(main())
