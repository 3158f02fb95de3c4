"""Stages of a scan worker's CPU time, from what benchmarks.bench.profiled has noted."""

import json
from collections import defaultdict
from pathlib import Path

NATIVE = "threads of the networks' library"
DECODERS = "JPEG decode, in its own processes"
THREAD = "thread "  # and its name: what it did between two looks, and had ended by the second
NETWORKS = (
    "pipeline/engine",
    "pipeline/torch_engine",
    *(THREAD + name for name in ("blazeface-back", "blazeface-short", "shield-lite0")),  # engines name them so
)


def shares(before: Path, after: Path) -> dict[str, float]:
    """Shares of CPU time between two writings of a profile, by stack of functions."""
    early, late = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    spent = {where: seconds - early.get(where, 0.0) for where, seconds in late.items()}
    total = sum(spent.values())
    return {where: seconds / total for where, seconds in spent.items() if seconds > 0}


def by_stage(stacks: dict[str, float]) -> dict[str, float]:
    """The same by stage, the largest first."""
    found: defaultdict[str, float] = defaultdict(float)
    for where, share in stacks.items():
        found[stage_of(where)] += share
    return dict(sorted(found.items(), key=lambda stage: -stage[1]))


def stage_of(where: str) -> str:
    """The stage of a stack: the networks, the decoders, or else the file of ours that the thread was in last."""
    file = where.rpartition(";")[2].partition(":")[0]
    if where == NATIVE or file in NETWORKS:
        return "networks"
    return "JPEG decode" if where == DECODERS else file
