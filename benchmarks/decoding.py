"""What decoding in a confined child costs: `python -m benchmarks.decoding` (`make bench-decode`).

The same photos through the same scanner, turn by turn: decoded by its children, and decoded by threads of this very
process, which is the same code without the boundary. Only ratios within a round are compared, so that a busy machine
weighs on both alike.
"""

import argparse
import io
import mmap
import os
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from PIL import Image

from pipeline import decode_child
from pipeline.decoders import DecoderPool
from pipeline.images import Decoder
from pipeline.scan import Scanner, ScannerSettings
from training.bars import Bar

ROOT = Path(__file__).resolve().parent.parent
COST = 0.05  # of the throughput
SIZES = {"0.2 MP": (512, 384), "2 MP": (1920, 1080), "12 MP": (4000, 3000)}
TICKS = os.sysconf("SC_CLK_TCK")


class Unconfined(Decoder):
    """Stands in for a Decoder: this very process decodes, in memory that it does not share."""

    def start(self) -> None:
        """There is nothing to start but the memory."""
        if self._room is None:
            self._room = mmap.mmap(-1, 3 * self.limits.max_pixels)

    def _ask(self, name: str, least: int, content: bytes) -> tuple[str, int, int, int]:
        assert self._room is not None  # noqa: S101 - start() has made it
        return "decoded", *decode_child.decode(content, name, least, self.limits.max_pixels, self._room)


class Turn(NamedTuple):
    """What one way took for one round."""

    seconds: float
    processor: float


def children_of(pool: DecoderPool) -> list[int]:
    """The processes that decode."""
    return [decoder.pid for decoder in pool._decoders if decoder.pid is not None]  # noqa: SLF001 - measured


def processor_seconds(children: Iterable[int]) -> float:
    """CPU time so far, of this process and of these."""
    taken = time.process_time()
    for child in children:
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        taken += (int(fields[11]) + int(fields[12])) / TICKS
    return taken


def turn(scanner: Scanner, pool: DecoderPool, photos: Sequence[bytes]) -> Turn:
    """Scan the photos, decoded by this pool."""
    scanner._decoders = pool  # noqa: SLF001 - the one thing that differs
    children = children_of(pool)
    processor, began = processor_seconds(children), time.perf_counter()
    assert not any(scan.error for scan in scanner.scan(photos))  # noqa: S101 - failures would mean nothing
    return Turn(time.perf_counter() - began, processor_seconds(children) - processor)


def scanning(rounds: int, copies: int) -> tuple[float, float]:
    """The shares of throughput and of CPU time that confinement costs, as medians over the rounds."""
    photos = [path.read_bytes() for path in sorted((ROOT / "samples").rglob("*.jpg"))] * copies
    slower, dearer = [], []
    with Scanner(ScannerSettings(view_side=1024)) as scanner:
        confined = scanner._decoders  # noqa: SLF001
        with patch("pipeline.decoders.Decoder", Unconfined):
            free = DecoderPool(confined.size)
        for number in range(rounds + 1):
            pools = (confined, free) if number % 2 else (free, confined)
            taken = {pool: turn(scanner, pool, photos) for pool in pools}
            here, there = taken[free], taken[confined]
            if number:  # the first one warms up
                slower.append(1 - here.seconds / there.seconds)
                dearer.append(there.processor / here.processor - 1)
            rate = len(photos) / there.seconds, len(photos) / here.seconds
            print(f"  round {number}: {rate[0]:6.1f} images a second confined, {rate[1]:6.1f} not", flush=True)
        scanner._decoders = confined  # noqa: SLF001
        free.close()
    return statistics.median(slower), statistics.median(dearer)


def decoding(repeats: int) -> None:
    """Print what one decode takes either way, by size."""
    with Image.open(ROOT / "samples" / "landscape.jpg") as image:
        photo = image.convert("RGB")
    with Decoder() as decoder, Unconfined() as free:
        for name, size in SIZES.items():
            content = io.BytesIO()
            photo.resize(size).save(content, "JPEG", quality=88)
            taken: dict[str, list[float]] = {"confined": [], "not": []}
            for _ in range(repeats):
                for way, decode in (("confined", decoder.decode), ("not", free.decode)):
                    began = time.perf_counter()
                    decode(content.getvalue())
                    taken[way].append(1000 * (time.perf_counter() - began))
            confined, here = (statistics.median(taken[way]) for way in ("confined", "not"))
            print(f"  {name:7} {confined:7.2f} ms confined, {here:7.2f} ms not: {confined / here:.2f} times")


def main() -> int:
    """Measure, print, and say whether the bar holds; 1 when it does not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--copies", type=int, default=4, help="how often each of the sample photos is in a round")
    args = parser.parse_args()
    print("one photo, decoded alone:")
    decoding(3 * args.rounds)
    print("sample photos, scanned:")
    slower, dearer = scanning(args.rounds, args.copies)
    print(f"CPU time: {dearer:+.1%}")
    bar = Bar("throughput_cost", slower, COST, at_most=True)
    print("\n".join(bar.lines()))
    return 0 if bar.holds else 1


if __name__ == "__main__":
    sys.exit(main())
