"""The report: one page that says what was broken, what became of the images, and which bars hold."""

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from chaos.injector import NAMED
from chaos.recovery import percentile
from chaos.run import Result
from chaos.steps import STEPS
from training.bars import Bar

STEP_SHARE = 25  # of so many faults one hits each named step, at least
SHOWN = 20  # findings that are written out


def bars(result: Result) -> list[Bar]:
    """What must hold."""
    plan = result.order.plan
    seconds = [recovery.seconds for recovery in result.recoveries]
    fewest = min(result.hits.get(step, 0) for step in NAMED)
    most = 1.5 * plan.lease_seconds + plan.sweep_seconds
    return [
        *(Bar(f"{plan.dialect}_{name}", count, 0, at_most=True) for name, count in result.tally.items()),
        Bar(f"{plan.dialect}_named_step_hits_fewest", fewest, result.order.faults // STEP_SHARE),
        Bar(f"{plan.dialect}_recovery_p99_seconds", percentile(seconds, 0.99), most, at_most=True),
    ]


def page(results: Sequence[Result]) -> str:
    """The report in Markdown."""
    first = results[0].order
    plan = first.plan
    told = (
        f"`make chaos IMAGES={first.images} FAULTS={first.faults} SEED={first.seed}`: leases of"
        f" {plan.lease_seconds:g} s, a sweep every {plan.sweep_seconds:g} s, {plan.workers} workers."
        " docs/guarantees.md says what each fault proves. A step with a star is a named one; faults overlap."
    )
    lines = ["# Chaos", "", told]
    for result in results:
        lines += ["", *_section(result)]
    lines += ["", "```", *(line for result in results for bar in bars(result) for line in bar.lines()), "```", ""]
    return "\n".join(lines)


def _section(result: Result) -> list[str]:
    """One database's part."""
    seconds = [recovery.seconds for recovery in result.recoveries]
    kinds, faults = len(result.faults), sum(result.faults.values())
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in result.tally.items())
    became = (
        f"{result.images} images in {result.jobs} jobs, {faults} faults of {kinds} kinds in {result.seconds:.0f} s;"
        f" {result.poison} images ended as poison. **{counts}.**"
    )
    recovered = (
        f"Recovery of {len(seconds)} chunks whose worker died or froze, from that moment to the next result of the"
        f" chunk: p50 {percentile(seconds, 0.5):.2f} s, p99 {percentile(seconds, 0.99):.2f} s,"
        f" longest {max(seconds, default=0.0):.2f} s. The {result.away_seconds:.0f} s in which the database took no"
        f" write, or no worker or no house was up, are left out; with them the p99 is"
        f" {percentile([recovery.waited for recovery in result.recoveries], 0.99):.2f} s. What must always hold was"
        f" looked at {result.checks} times. The load of the machine was {result.load:.1f} on {os.cpu_count()} cores."
    )
    steps = [f"| {step}{'*' * (step in NAMED)}: {what} | {result.hits.get(step, 0)} |" for step, what in STEPS.items()]
    lines = [f"## {result.order.plan.dialect}, {result.order.plan.redis}", "", became, "", recovered, ""]
    lines += ["| fault | times | recovery p50 | longest |", "|---|---:|---:|---:|", *_rows(result), ""]
    lines += ["| step | times hit |", "|---|---:|", *steps]
    if result.troubles:
        told = ", ".join(f"{count} x {what}" for what, count in sorted(result.troubles.items()))
        lines += ["", f"What clients met and tried again: {told}."]
    if result.black_holes:
        longest, count = max(result.black_holes), len(result.black_holes)
        lines += ["", f"Of {count} black holes the longest lasted {longest:.0f} s."]
    lines += [f"\nNOT INJECTED: {what}." for what in result.skipped]
    lines += [f"\nFault that could not be injected: {what}" for what in result.errors]
    if result.findings:
        lines += ["", "Broken promises:", "", *(f"- {f.promise}: {f.row}" for f in result.findings[:SHOWN])]
    return lines


def _rows(result: Result) -> list[str]:
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for recovery in result.recoveries:
        word = recovery.kind.partition(" ")[0]
        kind = {"step": "killed at a named step", "frozen": "frozen at a named step"}.get(word, recovery.kind)
        seconds[kind].append(recovery.seconds)
    rows = []
    for kind, count in sorted(result.faults.items()):
        known = seconds.get(kind)
        told = f"{percentile(known, 0.5):.2f} s | {max(known):.2f} s" if known else " | "
        rows.append(f"| {kind} | {count} | {told} |")
    return rows


def record(results: Sequence[Result]) -> dict[str, Any]:
    """The same as data."""
    return {
        result.order.plan.dialect: {
            "redis": result.order.plan.redis,
            "images": result.images,
            "jobs": result.jobs,
            "seconds": round(result.seconds, 1),
            "faults": result.faults,
            "steps": result.hits,
            "tally": result.tally,
            "black_hole_seconds": [round(seconds, 1) for seconds in result.black_holes],
            "errors": result.errors,
            "recovery_seconds": sorted(round(recovery.seconds, 3) for recovery in result.recoveries),
            "away_seconds": round(result.away_seconds, 1),
            "load": round(result.load, 1),
            "troubles": result.troubles,
            "skipped": result.skipped,
        }
        for result in results
    }
