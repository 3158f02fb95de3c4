"""The system level: the same photos as one bulk job through API, Redis, worker and SQL.

Throughput beside that of the pipeline alone, turn by turn; the latency of single images by the timestamps of their
rows, idle and beside a bulk job that fills the worker; and where the worker's CPU time goes.
"""

import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench.contender import Contender, contending
from benchmarks.bench.effort import Effort, progress
from benchmarks.bench.installation import SCAN, Client, installed, scanning
from benchmarks.bench.photos import BAR_KIND, photos_of
from benchmarks.bench.stages import by_stage, shares
from benchmarks.queue import quantile
from benchmarks.stack import Stack
from training.bars import Bar
from worker.__main__ import VIEW_SIDE

EXEMPT = ("networks", "JPEG decode")  # what a scan is about
PROFILE_SETTLES = 1.0  # seconds: a profile is written twice a second


def measure(effort: Effort) -> tuple[dict[str, Any], list[Bar]]:
    """The record and its bars."""
    paths = photos_of(BAR_KIND)
    photos = [path.read_bytes() for path in paths]
    with contending("shield") as pipeline, installed() as stack:
        bulk, single = Client(stack, "bulk"), Client(stack, "single")
        with scanning(stack, "scan"):
            through = _throughput(effort, pipeline, bulk, paths, photos)
            idle, busy = _latencies(effort, bulk, single, photos)
        stacks = _profile(effort, stack, bulk, photos)
    stages = by_stage(stacks)
    most = next(stage for stage in stages if stage not in EXEMPT)
    bars = [
        Bar("system_of_pipeline", through["of_pipeline"], 0.90),
        Bar("busy_p95_less_idle_p95_ms", busy["p95_ms"] - idle["p95_ms"], 400.0, aim=200.0, at_most=True),
        Bar("largest_other_stage", stages[most], 0.10, at_most=True),
    ]
    record = {
        "throughput": through,
        "latency": {"idle": idle, "beside a bulk job": busy},
        "stages": stages,
        "stacks": stacks,
        "largest_other_stage": most,
    }
    return record, bars


def _throughput(
    effort: Effort, pipeline: Contender, bulk: Client, paths: Sequence[Path], photos: Sequence[bytes]
) -> dict[str, float]:
    """Images a second of the system and of the pipeline alone."""
    times = -(-effort.job // len(photos))
    asked: dict[str, Any] = {"photos": [str(path) for path in paths], "times": times, "view_side": VIEW_SIDE}
    pipeline.ask("scan", **{**asked, "times": 1})  # both warm up
    bulk.wait(bulk.post(photos))
    ours, alone, with_posting, ratios = [], [], [], []
    for number in range(effort.rounds):
        progress(f"system level, round {number + 1} of {effort.rounds}")
        answer = pipeline.ask("scan", **asked)
        done = bulk.wait(bulk.post(list(photos) * times))
        alone.append(answer["images"] / answer["seconds"])
        ours.append(done.images / done.seconds)
        with_posting.append(done.images / (done.posting + done.seconds))
        ratios.append(ours[-1] / alone[-1])
    return {
        "images": len(photos) * times,
        "images_per_second": statistics.median(ours),
        "images_per_second_from_the_first_byte_posted": statistics.median(with_posting),
        "pipeline_images_per_second": statistics.median(alone),
        "of_pipeline": statistics.median(ratios),
    }


def _latencies(
    effort: Effort, bulk: Client, single: Client, photos: Sequence[bytes]
) -> tuple[dict[str, float], dict[str, float]]:
    """Of single images, in milliseconds: idle, and while a bulk job keeps the worker full."""
    progress("latency, idle")
    idle = [single.wait(single.post(photos[:1])).seconds for _ in range(effort.singles)]
    progress("latency, beside a bulk job")
    busy: list[float] = []
    posted: list[tuple[str, float]] = []
    while len(busy) < effort.singles:
        if not posted or _left(bulk, posted[-1][0]) < effort.job // 2:
            posted.append(bulk.post([photos[n % len(photos)] for n in range(effort.job)]))
        busy.append(single.wait(single.post(photos[:1])).seconds)
        time.sleep(0.1 * (len(busy) % 5))  # at no fixed place in the worker's round
    for job in posted:
        bulk.wait(job)
    return _summary(idle), _summary(busy)


def _left(client: Client, job_id: str) -> int:
    """Images of a job that have not ended."""
    return int(client.job(job_id)["counts"]["pending"])


def _summary(seconds: list[float]) -> dict[str, float]:
    return {"singles": len(seconds), **{f"p{p}_ms": 1000 * quantile(seconds, p / 100) for p in (50, 95)}}


def _profile(effort: Effort, stack: Stack, bulk: Client, photos: Sequence[bytes]) -> dict[str, float]:
    """Shares of the worker's CPU time during a bulk job, by stack of functions."""
    progress("CPU time by stage")
    now, before = stack.home / "profile.json", stack.home / "before.json"
    with scanning(stack, "profiled", "benchmarks.bench.profiled", str(now), *SCAN):
        bulk.wait(bulk.post(photos))  # warms up
        time.sleep(PROFILE_SETTLES)
        shutil.copy(now, before)
        bulk.wait(bulk.post([photos[n % len(photos)] for n in range(effort.job)]))
        time.sleep(PROFILE_SETTLES)
        return shares(before, now)
