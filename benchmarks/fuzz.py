"""Damages images at random and has them scanned: `python -m benchmarks.fuzz --mutants 100000` (`make fuzz`).

One process scans, as a worker does; this one watches it, and begins another where it dies. Each mutant is known by a
seed and a number, so `--first` goes on where a run was stopped, and `--save NUMBER FILE` writes one to look at.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import PIL

from benchmarks import mutations
from pipeline.images import DecodeLimits
from pipeline.results import ErrorCode
from pipeline.scan import Scanner, ScannerSettings
from training.bars import Bar

DATA = mutations.ROOT / os.environ.get("SHIELD_DATA", "../shared/data")
COLLECTION = DATA / "hostile_images.zip"
SECONDS = 10.0
WORKER_MIB = 2048
DECODER_MIB = DecodeLimits().memory_bytes // 2**20
SCANNED_SHARE = 0.05  # of mutants that still decode: with fewer, nothing behind the headers would be reached
PROGRESS_SECONDS = 10.0
MOST_DEATHS = 100  # then it is no use going on

PAGE = """# Fuzzing the decoders

`make fuzz MUTANTS={wanted} SEED={seed} REPORT=docs/fuzz.md` wrote this page.

Sample photos in every form that is decoded, {collection} the files of the hostile collection of the data folder, are
damaged by `benchmarks/mutations.py`: flipped bits, noise, cuts, splices, stretches repeated and dropped, numbers from
the edges of their ranges, lies about lengths and sizes, PNGs with their checksums made right again. Each is scanned as
a worker scans, faces and view included, by one process that another one watches.

Mutants {first:,} to {last:,} of seed {seed}, Pillow {pillow}, {minutes:.0f} minutes on one core.

| bar | measured | target | |
| --- | ---: | ---: | --- |
{bars}

Mutants and the share that was scanned are to reach their targets, the others are not to pass them. Peaks are resident
memory; of the decoder's address space the kernel allows no more than the target.

| end of a mutant | mutants | share |
| --- | ---: | ---: |
{ends}

## Workers that died, decoders that were ended

A decoder's end costs its own image, with `decoder_crashed` or `decode_timeout`.
`python -m benchmarks.fuzz --seed {seed} --save NUMBER FILE` writes a mutant to a file.

{odd}
"""


@dataclass
class Seen:
    """What a run has met with so far."""

    ends: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    worker_mib: float = 0.0
    decoder_mib: float = 0.0
    deaths: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)  # decoders that were ended, and errors that have no type
    tracebacks: int = 0
    seconds: float = 0.0

    @property
    def mutants(self) -> int:
        """Those that got an answer."""
        return self.ends.total()

    def add(self, number: int, end: str, seconds: float, worker_mib: float, decoder_mib: float) -> None:
        """Note how one mutant ended."""
        self.ends[end] += 1
        self.slowest = max(self.slowest, seconds)
        self.worker_mib, self.decoder_mib = max(self.worker_mib, worker_mib), max(self.decoder_mib, decoder_mib)
        if end not in {"scan", *ErrorCode} or end in (ErrorCode.DECODER_CRASHED, ErrorCode.DECODE_TIMEOUT):
            self.odd.append(f"{number}: {end}")

    def bars(self, wanted: int) -> list[Bar]:
        """The promises."""
        typed = sum(self.ends[end] for end in ("scan", *ErrorCode))
        return [
            Bar("mutants", self.mutants, wanted),
            Bar("worker_deaths", len(self.deaths), 0, at_most=True),
            Bar("tracebacks", self.tracebacks, 0, at_most=True),
            Bar("without_typed_end", self.mutants - typed, 0, at_most=True),
            Bar("slowest_seconds", self.slowest, SECONDS, at_most=True),
            Bar("worker_peak_mib", self.worker_mib, WORKER_MIB, at_most=True),
            Bar("decoder_peak_mib", self.decoder_mib, DECODER_MIB, at_most=True),
            Bar("scanned_share", self.ends["scan"] / max(self.mutants, 1), SCANNED_SHARE),
        ]


def scan(seed: int, first: int, beyond: int) -> None:
    """Scan mutants one by one, and print a line for each: number, end, seconds, peak MiB here and in the decoder."""
    given = mutations.seeds(COLLECTION)
    with Scanner(ScannerSettings(view_side=1024, decoders=1, threads=1)) as scanner:
        for number in range(first, beyond):
            content = mutations.mutant(seed, number, given)
            began = time.monotonic()
            try:
                (answer,) = scanner.scan([content])
                end = answer.error.code if answer.error else "scan"
            except Exception as error:  # noqa: BLE001 - what should not be is what is looked for
                end = f"untyped-{type(error).__name__}"
            seconds = time.monotonic() - began
            decoder = scanner._decoders._decoders[0].pid  # noqa: SLF001 - measured, not used
            print(number, end, f"{seconds:.4f}", f"{peak_mib(os.getpid()):.0f}", f"{peak_mib(decoder):.0f}", flush=True)


def peak_mib(process: int | None) -> float:
    """The most memory that a process had resident; 0 where there is none, or no /proc."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        return 0.0


def watch(seed: int, first: int, beyond: int) -> Seen:
    """Have all mutants scanned, whatever becomes of the process that does it."""
    seen, began, said = Seen(), time.monotonic(), time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        while first < beyond and len(seen.deaths) < MOST_DEATHS:
            with _scanning(seed, first, beyond, errors) as process:
                for line in process.stdout or ():
                    number, end, *figures = line.split()
                    seen.add(int(number), end, *map(float, figures))
                    first = int(number) + 1
                    if time.monotonic() - said > PROGRESS_SECONDS:
                        said = time.monotonic()
                        _say(seen, first, beyond, said - began)
            if first < beyond:
                how = process.wait()
                seen.deaths.append(f"{first}: {signal.Signals(-how).name if how < 0 else f'exit {how}'}")
                first += 1
        errors.seek(0)
        text = errors.read()
    seen.tracebacks = text.count("Traceback")
    if text:
        print(text[-4000:], file=sys.stderr)
    seen.seconds = time.monotonic() - began
    return seen


def _scanning(seed: int, first: int, beyond: int, errors: IO[str]) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "benchmarks.fuzz", "--scan", str(seed), str(first), str(beyond)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=mutations.ROOT)


def _say(seen: Seen, first: int, beyond: int, seconds: float) -> None:
    common = ", ".join(f"{end} {count / seen.mutants:.0%}" for end, count in seen.ends.most_common(4))
    print(f"  {first:,} of {beyond:,}, {seen.mutants / seconds:.0f} a second: {common}", flush=True)


def report(seen: Seen, seed: int, first: int, wanted: int) -> str:
    """docs/fuzz.md."""
    bars = [f"| {bar.name} | {bar.value:g} | {bar.target:g} | {_word(bar)} |" for bar in seen.bars(wanted)]
    ends = [f"| `{end}` | {count:,} | {count / seen.mutants:.2%} |" for end, count in seen.ends.most_common()]
    return PAGE.format(
        wanted=wanted,
        seed=seed,
        first=first,
        last=first + wanted - 1,
        collection="with" if COLLECTION.is_file() else "without",
        pillow=PIL.__version__,
        minutes=seen.seconds / 60,
        bars="\n".join(bars),
        ends="\n".join(ends),
        odd="\n".join(f"- {line}" for line in [*seen.deaths, *seen.odd][:100]) or "None.",
    )


def _word(bar: Bar) -> str:
    return "holds" if bar.holds else "**falls short**"


def main() -> int:
    """Run, print the bars, write the report; 1 when a bar falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    parser.add_argument("--out", type=Path, help="write a page there")
    parser.add_argument("--save", nargs=2, metavar=("NUMBER", "FILE"), help="write one mutant to a file, and end")
    parser.add_argument("--scan", nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.scan:
        scan(*args.scan)
        return 0
    if args.save:
        Path(args.save[1]).write_bytes(mutations.mutant(args.seed, int(args.save[0]), mutations.seeds(COLLECTION)))
        return 0
    if not COLLECTION.is_file():
        print(f"{COLLECTION} is not there: sample photos alone are mutated. SHIELD_DATA says where to look.")
    seen = watch(args.seed, args.first, args.first + args.mutants)
    for end, count in seen.ends.most_common():
        print(f"{end:20} {count:8,}  {count / seen.mutants:6.2%}")
    print("\n".join([*seen.deaths, *seen.odd][:20]))
    bars = seen.bars(args.mutants)
    print("\n".join(line for bar in bars for line in bar.lines()))
    if args.out:
        args.out.write_text(report(seen, args.seed, args.first, args.mutants))
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
