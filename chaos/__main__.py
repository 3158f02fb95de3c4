"""Break the system on purpose and check every promise: `python -m chaos [--images N] [--faults N] [--seed N]`.

Exit code 1 when a bar falls short. Everything happens in temporary folders, on loopback.
"""

import argparse
import json
import shutil
import signal
import sys
from pathlib import Path

from chaos.report import bars, page, record
from chaos.run import Order, Result, run
from chaos.stack import MIB, Plan, disk_can_be_filled

DISK_BYTES = 384 * MIB  # beside what the images need
IMAGE_BYTES = 8192  # of database, its log and its indexes, at most


def main() -> int:
    """Run the command."""
    args = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no process and no disk behind
    can_fill = disk_can_be_filled()
    results: list[Result] = []
    for dialect in ("sqlite", "postgresql") if args.database == "both" else (args.database,):
        # Debian's Redis beside PostgreSQL where it is installed, the embedded server beside SQLite.
        debian = shutil.which("redis-server") if dialect == "postgresql" else None
        plan = Plan(
            dialect=dialect,
            redis={"": debian or "valkey", "valkey": "valkey"}.get(args.redis, args.redis),
            workers=args.workers,
            lease_seconds=args.lease,
            disk_bytes=DISK_BYTES + args.images * IMAGE_BYTES if can_fill else 0,
        )
        log = args.history.with_suffix(f".{dialect}.jsonl")
        log.parent.mkdir(parents=True, exist_ok=True)
        result = run(Order(plan, args.images, args.faults, args.seed, args.gap, args.patience, log, tuple(args.only)))
        results.append(result)
    text = page(results)
    sys.stdout.write(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
        args.out.with_suffix(".json").write_text(json.dumps(record(results), indent=1) + "\n", encoding="utf-8")
    return 0 if all(bar.holds for result in results for bar in bars(result)) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--images", type=int, default=3000, help="to submit, at least, to each database")
    parser.add_argument("--faults", type=int, default=52, help="to inject, in each database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--redis", default="", help="valkey, or the path of a server; default: one of each")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--lease", type=float, default=3.0, help="seconds")
    parser.add_argument("--gap", type=float, default=1.3, help="seconds between two faults, in the mean")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds in which nothing moves")
    parser.add_argument("--only", action="append", default=[], help="inject this kind of fault alone; may be repeated")
    parser.add_argument("--history", type=Path, default=Path("var/chaos/history"), help="where the histories go")
    parser.add_argument("--out", type=Path, help="where the report goes, and beside it the same as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
