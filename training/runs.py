"""What was tracked: `python -m training runs`."""

import argparse
import json
import sys

from training import track

SHOWN = 5  # results on one line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--name", help="only the runs of this name")
    parser.add_argument("--json", action="store_true", help="every run whole, one JSON object a line")


def main(args: argparse.Namespace) -> int:
    """List the tracked runs, newest first; 1 when there is none."""
    found = track.runs(args.name)
    if not found:
        sys.stderr.write("no tracked run yet: `python -m training train` and its neighbours make some\n")
        return 1
    for run in found:
        if args.json:
            sys.stdout.write(json.dumps(run, default=str) + "\n")
            continue
        state, meta = run["status"], run["metadata"]
        results = [f"{key} {_short(value)}" for key, value in (state.get("results") or {}).items()]
        kept = track.artifacts(meta["uid"])
        sys.stdout.write(
            f"{meta['uid'][:8]}  {str(state.get('start_time', ''))[:19]}  {meta['name']:12} {state['state']:10}"
            f" {', '.join(results[:SHOWN])}{'  kept: ' + ', '.join(kept) if kept else ''}\n"
        )
    return 0


def _short(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
