"""Growth: more workers, and more images.

`measure`: one worker pinned to a core with one thread, and two, each on a core of its own; and the scanner alone
likewise, without API, queue and database, to see what the cores have to give. `measure_long`: a long job of small
photos through the whole system; what an image costs and what a worker holds, beside a short job before.
"""

import io
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from PIL import Image

from benchmarks.bench.contender import Contender, contending
from benchmarks.bench.effort import Effort, progress
from benchmarks.bench.installation import SCAN, Client, installed, scanning
from benchmarks.bench.photos import BAR_KIND, photos_of
from benchmarks.queue import Memory, measured
from benchmarks.stack import ROOT, Stack
from pipeline.engine import usable_cores
from shield.settings import MIB
from training.bars import Bar

SMALL = (64, 48)  # pixels of the long run's photos: one pass of the detector, so that many end in reasonable time


def measure(effort: Effort) -> tuple[dict[str, Any], list[Bar]]:
    """Images a second with one and with two workers; the record and the bar."""
    paths = photos_of(BAR_KIND)
    photos = [path.read_bytes() for path in paths]
    rates: dict[int, list[float]] = {1: [], 2: []}
    with installed(threads=1) as stack:
        client = Client(stack, "growth")
        for number in range(effort.rounds):
            for workers, found in rates.items():
                progress(f"growth, round {number + 1} of {effort.rounds}, {workers} of 2 workers")
                found.append(_rate(stack, client, workers, photos, workers * effort.job // 2))
    system = _figures(rates)
    alone = _alone([str(path) for path in paths], effort)
    return {"system": system, "alone": alone}, [Bar("two_workers_over_one", system["ratio"], 1.6)]


def _figures(rates: dict[int, list[float]]) -> dict[str, Any]:
    """Medians of the rounds, and of the ratios within them."""
    medians = {str(workers): statistics.median(found) for workers, found in rates.items()}
    ratio = statistics.median(two / one for one, two in zip(rates[1], rates[2], strict=True))
    return {"images_per_second": medians, "ratio": ratio}


def _alone(photos: list[str], effort: Effort) -> dict[str, Any]:
    """The same of one scanner and of two, each pinned to a core, with nothing else on the machine."""
    times = max(1, effort.job // 2 // len(photos))

    def scan(contender: Contender) -> None:
        contender.ask("scan", photos=photos, times=times)

    rates: dict[int, list[float]] = {1: [], 2: []}
    cores = (sorted(os.sched_getaffinity(0)) * 2)[:2] if hasattr(os, "sched_getaffinity") else (None, None)
    with ExitStack() as running, ThreadPoolExecutor(2) as asking:
        scanners = [running.enter_context(contending("shield", core)) for core in cores]
        list(asking.map(scan, scanners))  # warms up
        for _ in range(effort.rounds):
            for count, found in rates.items():
                progress(f"growth, the scanner alone, {count} of 2")
                began = time.monotonic()
                list(asking.map(scan, scanners[:count]))
                found.append(count * times * len(photos) / (time.monotonic() - began))
    return _figures(rates)


def _rate(stack: Stack, client: Client, workers: int, photos: Sequence[bytes], images: int) -> float:
    """Images a second of so many workers."""
    with ExitStack() as running:
        for number in range(workers):
            share = f"{number + 1}/{max(2, usable_cores())}"
            running.enter_context(scanning(stack, f"scan-{number}", *SCAN, "--share", share))
        client.wait(client.post(photos))  # warms up
        done = client.wait(client.post([photos[n % len(photos)] for n in range(images)]))
    return done.images / done.seconds


def measure_long(effort: Effort) -> tuple[dict[str, Any], list[Bar]]:
    """A short job and a long one; CPU time for an image of each, memory along the long one; the record and its bars."""
    with Image.open(ROOT / "samples" / "landscape.jpg") as image:
        content = io.BytesIO()
        image.convert("RGB").resize(SMALL).save(content, "JPEG")
    photo = content.getvalue()
    room = {"max_request_bytes": 512 * MIB + 2000 * effort.long, "max_source_items": max(effort.long, 10_000)}
    with installed(**room, max_zip_ratio=10_000) as stack, scanning(stack, "scan"):
        client = Client(stack, "long")
        client.wait(client.post_zip(photo, effort.short))  # warms up
        progress(f"{effort.short} images")
        with measured(stack, effort.short) as short:
            short.seconds = client.wait(client.post_zip(photo, effort.short)).seconds
        progress(f"{effort.long} images")
        memory = Memory(stack)
        with memory.sampled(), measured(stack, effort.long) as long:
            long.seconds = client.wait(client.post_zip(photo, effort.long)).seconds
    worker = [sample["scan"] / MIB for sample in memory.samples]
    bars = [
        Bar("cpu_of_an_image_long_over_short", long.cpu_of_image() / short.cpu_of_image(), 1.15, at_most=True),
        Bar("worker_mib_per_10000_images", _slope(worker) * len(worker) / effort.long * 10_000, 2.0, at_most=True),
    ]
    return {
        "photo_pixels": list(SMALL),
        "short": short.figures(),
        "long": long.figures() | memory.peaks(),
        "worker_mib": [round(value, 1) for value in worker[:: max(1, len(worker) // 200)]],
    }, bars


def _slope(values: Sequence[float]) -> float:
    """What a value grows by from a sample to the next, over the last nine tenths: of the line that fits best."""
    rest = values[len(values) // 10 :]
    if len(rest) < 2:
        return 0.0
    return statistics.linear_regression(range(len(rest)), rest).slope
