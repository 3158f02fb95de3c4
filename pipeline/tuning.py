"""Self-tuning: on how many threads, and how many images at once, each network runs fastest on this machine.

Measured in a few seconds when a worker starts, and remembered in a file under what it depends on: processor, cores that
may be used, engine and its version, weights. Whatever the settings name is taken as it is.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import onnxruntime

from pipeline.engine import Engine, Pixels, usable_cores
from pipeline.scan import ScannerSettings, network_cards, open_engine
from pipeline.weights import WeightsCard

log = logging.getLogger(__name__)

SECONDS: Final = 0.7  # after which no further round of a measurement begins
ROUNDS: Final = 4  # of each candidate by turn; its best counts, as other work on the machine only ever slows it down
CLOSE: Final = 0.97  # of the best rate is as good: the smallest such number wins, as it takes the least memory
PASSES: Final = {"onnx": (1, 2, 4), "onnx-int8": (1, 2, 4), "torch": (8, 16, 32, 64, 128)}


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was chosen. `passes`: images of its input size in one pass of each network, by its name."""

    threads: int
    passes: dict[str, int]

    @classmethod
    def parse(cls, found: Any, networks: Sequence[str]) -> Self | None:
        """What `as_json` gave, for these networks; None where it is anything else."""
        match found:
            case {"threads": int(threads), "passes": dict(passes)}:
                numbers = [threads, *passes.values()]
                fits = sorted(passes) == sorted(networks) and all(type(n) is int and n > 0 for n in numbers)
                return cls(threads, passes) if fits else None
            case _:
                return None

    def __str__(self) -> str:
        """For the log."""
        passes = ", ".join(f"{name} {images}" for name, images in self.passes.items())
        return f"{self.threads} threads; images in a pass: {passes}"


def tuned(settings: ScannerSettings, path: Path) -> ScannerSettings:
    """The settings with `threads` and `passes` as they run fastest here, measured unless the file at `path` knows.

    A file that is broken, or knows other machines alone, is measured for anew and added to. One that cannot be written
    costs the same seconds at the next start. Raises WeightsError as Scanner does, ModuleNotFoundError without torch.
    """
    cards = network_cards(settings)
    if settings.engine == "torch" and not settings.device.startswith("cuda"):
        return settings  # the reference: as slow with any number
    key = _key(settings, cards)
    known = _read(path)
    tuning = Tuning.parse(known.get(key), [card.name for card in cards])
    if tuning is None:
        began = time.perf_counter()
        tuning = measure(settings, cards)
        log.info("tuned in %.1f s to %s", time.perf_counter() - began, tuning)
        _write(path, known | {key: {"threads": tuning.threads, "passes": tuning.passes}})
    else:
        log.info("tuned at an earlier start to %s", tuning)
    return replace(settings, threads=tuning.threads, passes={**tuning.passes, **settings.passes})


def measure(settings: ScannerSettings, cards: Sequence[WeightsCard]) -> Tuning:
    """Choose the number of threads by the network that most images go through, then a pass for each network."""
    threads = settings.threads or usable_cores()
    if settings.engine != "torch" and not settings.threads:
        card = cards[:2][-1]
        pixels = _pixels(card, 2 * threads)
        engines = {count: open_engine(replace(settings, threads=count), card) for count in _halves(threads)}
        threads = fastest(list(engines), lambda count: engines[count].run(pixels))
    settings = replace(settings, threads=threads)
    return Tuning(threads, {card.name: _pass(open_engine(settings, card), settings) for card in cards})


def fastest(numbers: Sequence[int], run: Callable[[int], object]) -> int:
    """The number with which a run takes the least time, or the smallest nearly as good. Each does the same work."""
    run(max(numbers))  # makes buffers
    best = dict.fromkeys(numbers, float("inf"))
    until = time.perf_counter() + SECONDS
    for turn in range(ROUNDS):
        if turn and time.perf_counter() > until:
            break
        for number in numbers:
            began = time.perf_counter()
            run(number)
            best[number] = min(best[number], time.perf_counter() - began)
    least = min(best.values())
    return min(number for number, seconds in best.items() if seconds * CLOSE <= least)


def _pass(engine: Engine, settings: ScannerSettings) -> int:
    sizes = PASSES[settings.engine]
    pixels = _pixels(engine.card, max(sizes) if settings.engine == "torch" else max(sizes) * settings.threads)

    def run(images: int) -> None:
        engine.images = images
        engine.run(pixels)

    return fastest(sizes, run)


def _pixels(card: WeightsCard, count: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (count, card.input_size, card.input_size, 3), np.uint8)


def _halves(count: int) -> list[int]:
    """A number, half of it, and so on down to 1: a machine may run fewer threads at a time than it shows cores."""
    return [count, *_halves(count // 2)] if count > 1 else [1]


def _key(settings: ScannerSettings, cards: Sequence[WeightsCard]) -> str:
    """What the answer depends on, as one line."""
    parts = [_processor(), f"{usable_cores()} cores", settings.engine, f"threads {settings.threads}"]
    if settings.engine == "torch":
        import torch

        from pipeline.torch_engine import find_device

        name = torch.cuda.get_device_name(find_device(settings.device))
        parts += [f"torch {torch.__version__}", name, settings.dtype]
    else:
        parts.append(f"onnxruntime {onnxruntime.__version__}")
    return "; ".join([*parts, *(f"{card.name} {card.weights_sha256[:12]}" for card in cards)])


def _processor() -> str:
    """The processor as it calls itself; its architecture where it does not."""
    names = ("vendor_id", "cpu family", "model", "model name", "stepping")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return " ".join(facts[name] for name in names if name in facts) or platform.processor() or platform.machine()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, known: dict[str, Any]) -> None:
    """All or nothing, as several workers may start at once."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        log.warning("%s cannot be written, so the next start measures again: %s", path, error)
