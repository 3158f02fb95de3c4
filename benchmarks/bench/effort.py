"""How long and how much is measured."""

import sys
from dataclasses import dataclass

from benchmarks.bench.photos import BAR_KIND, KINDS, Kind


@dataclass(frozen=True, slots=True)
class Effort:
    """`rounds` of turns; `seconds` of one turn of a network, at each of `batches`.

    `photos` of each of `kinds` in a turn of the scanner (`large_photos` of 12 MP), `reference_photos` in one of the
    reference; `bar_rounds` for the kind that has the bars. `boxed_photos`: on which faces are looked for. `job`: images
    of a bulk job, `singles`: images whose latency is taken, `long`: images of the long job, `short` ones of the one
    before.
    """

    rounds: int = 3
    seconds: float = 0.4
    batches: tuple[int, ...] = (1, 8, 32)
    kinds: tuple[Kind, ...] = KINDS
    photos: int = 12
    large_photos: int = 6
    reference_photos: int = 3
    bar_rounds: int = 7
    boxed_photos: int = 272
    job: int = 192
    singles: int = 40
    short: int = 1_000
    long: int = 100_000


FULL = Effort()
# As small as a test wants it: it shows that everything runs, and no figure means anything.
TINY = Effort(
    rounds=1,
    seconds=0.01,
    batches=(1,),
    kinds=(BAR_KIND,),
    photos=1,
    large_photos=1,
    reference_photos=1,
    bar_rounds=1,
    boxed_photos=2,
    job=36,
    singles=2,
    short=40,
    long=80,
)


def progress(text: str) -> None:
    """Say on standard error what is being done."""
    print(f"  {text}", file=sys.stderr, flush=True)
