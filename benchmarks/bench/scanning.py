"""The product's scanner as a contender, and its limit.

The limit is what the very same photos would take if nothing were done but decoding them and running the networks, each
as fast as it goes. A scan is recorded first: every decode, and every pass of a network with its input's shape. Then the
same decodes are made by all cores, and as many images of each shape are sent through the network, in the batches that
suit it best.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench.networks import as_a_worker, images_per_second
from benchmarks.stack import cpu_seconds, family
from pipeline.engine import Engine, OnnxEngine, Pixels
from pipeline.images import Decoder
from pipeline.scan import Scanner, ScannerSettings

TRIED = (1, 2, 4, 8, 16, 32)  # pictures given to an engine at once
LARGEST = 16 * 512 * 512 * 3  # values given at once
TRIALS = 3
TRIAL_SECONDS = 0.05

Pass = tuple[str, tuple[int, int, int]]  # the network's name, the shape [H, W, 3] of a picture that it is given


@contextmanager
def replaced(owner: type, name: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """A method changed while the block lasts."""
    original = getattr(owner, name)
    setattr(owner, name, change(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


class Recording:
    """What a scan asks of its networks and its decoders."""

    def __init__(self) -> None:
        self.images: Counter[Pass] = Counter()
        self.engines: dict[Pass, Engine] = {}
        self.decodes: list[tuple[bytes, int]] = []  # what, and how small at the least

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record while the block lasts."""

        def passing(run: Callable[..., Any]) -> Callable[..., Any]:
            def recorded(engine: OnnxEngine, pixels: Pixels) -> Any:
                height, width, channels = pixels.shape[1:]
                key = (engine.card.name, (height, width, channels))
                self.images[key] += len(pixels)
                self.engines[key] = engine
                return run(engine, pixels)

            return recorded

        def reading(read: Callable[..., Any]) -> Callable[..., Any]:
            def recorded(decoder: Decoder, content: bytes, reader: Callable[..., Any], least: int = 0) -> Any:
                self.decodes.append((content, least))  # by threads: append is one step
                return read(decoder, content, reader, least)

            return recorded

        with replaced(OnnxEngine, "run", passing), replaced(Decoder, "read", reading):
            yield


class Scanning:
    """Scans, and takes the time that the same passes take alone."""

    def __init__(self) -> None:
        self._scanners: dict[int, Scanner] = {}
        self._recordings: dict[tuple[str, ...], Recording] = {}
        self._batches: dict[Pass, int] = {}
        self._decoders: list[Decoder] = []

    def scan(self, photos: list[str], times: int = 1, view_side: int = 0) -> dict[str, float]:
        """The seconds that the scan of these files takes, each so many times, and the faces in all."""
        scanner = self._scanner(view_side)
        contents = [Path(photo).read_bytes() for photo in photos] * times
        processor, began = self._processor(), time.perf_counter()
        scans = list(scanner.scan(contents))
        taken = time.perf_counter() - began
        if any(scan.error for scan in scans):
            raise ValueError("a benchmark of failures would mean nothing")
        return {
            "images": len(scans),
            "seconds": taken,
            "processor": self._processor() - processor,
            "faces": sum(len(scan.faces) for scan in scans),
        }

    def limit(self, photos: list[str]) -> dict[str, float]:
        """The seconds that their decodes and their passes take alone."""
        key = tuple(photos)
        if key not in self._recordings:
            self._recordings[key] = self._record(photos)
        recording = self._recordings[key]
        decode = self._decode(recording.decodes)
        networks = sum(self._run(recording.engines[which], which, n) for which, n in recording.images.items())
        return {"images": len(photos), "seconds": decode + networks, "decode": decode, "networks": networks}

    def close(self) -> None:
        """End all decoders."""
        for scanner in self._scanners.values():
            scanner.close()
        for decoder in self._decoders:
            decoder.close()

    def _scanner(self, view_side: int) -> Scanner:
        if view_side not in self._scanners:
            self._scanners[view_side] = Scanner(as_a_worker(ScannerSettings(view_side=view_side)))
        return self._scanners[view_side]

    def _record(self, photos: list[str]) -> Recording:
        recording = Recording()
        self._scanner(view_side=0)  # it tunes itself when it is made, which is no part of a scan
        with recording.recorded():
            self.scan(photos)
        for which, engine in recording.engines.items():
            if which not in self._batches:
                self._batches[which] = _best_batch(engine, which)
        return recording

    def _decode(self, decodes: Sequence[tuple[bytes, int]]) -> float:
        """The seconds that these decodes take, by one decoder a core."""
        if not self._decoders:
            self._decoders = [Decoder() for _ in range(os.cpu_count() or 1)]

        def share(number: int) -> None:
            for content, least in decodes[number :: len(self._decoders)]:
                self._decoders[number].read(content, lambda _: None, least)

        with ThreadPoolExecutor(len(self._decoders)) as threads:
            list(threads.map(lambda decoder: decoder.start(), self._decoders))
            began = time.perf_counter()
            list(threads.map(share, range(len(self._decoders))))
            return time.perf_counter() - began

    def _run(self, engine: Engine, which: Pass, images: int) -> float:
        """The seconds that so many images take: full batches, counted by the image."""
        batch = self._batches[which]
        pixels = _input(which, batch)
        calls = -(-images // batch)
        began = time.perf_counter()
        for _ in range(calls):
            engine.run(pixels)
        return (time.perf_counter() - began) * images / (calls * batch)

    def _processor(self) -> float:
        """CPU seconds so far, of this process and its decoders."""
        return sum(cpu_seconds(member) for member in family(os.getpid()))


def _best_batch(engine: Engine, which: Pass) -> int:
    """The batch at which the engine takes most images of this shape a second: of each the best of several trials."""
    sizes = [batch for batch in TRIED if batch * math.prod(which[1]) <= LARGEST] or [1]
    rates = dict.fromkeys(sizes, 0.0)
    for _ in range(TRIALS):
        for batch in sizes:
            run = partial(engine.run, _input(which, batch))
            rates[batch] = max(rates[batch], images_per_second(run, batch, TRIAL_SECONDS))
    return max(rates, key=rates.__getitem__)


def _input(which: Pass, batch: int) -> Any:
    return np.zeros((batch, *which[1]), np.uint8)
