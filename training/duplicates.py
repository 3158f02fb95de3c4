"""Pictures that stand more than once in a manifest: the same bytes, or nearly the same to the eye in another split."""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.hashes import perceptual_hash
from training.data import Example, Pictures, read_rgb

NEAR = 4
"""Bits of 64 by which the hashes of nearly equal pictures differ at most (they differ by an even number of bits).

Measured on DFDC's crops, train against val and test, by looking at pairs: the same shot in 16 of 16 pairs at 0 bits,
17 of 18 at 2, 31 of 40 at 4, and 16 of 40 at 6. A crop compressed at quality 40 or halved stays within 4 (400 of 400),
and none of the 3,021 portraits of LFW, FFHQ and StyleGAN comes within 6 of a DFDC crop that is held out. Aligned
portraits that smile alike come within 4 of each other (3 of StyleGAN's 4 pairs): leaving out three costs nothing. A
crop cut elsewhere by 3 % is within 4 in one case of four: what is found is nearly equal, not all that shows one scene.
"""
LATER = {"val": 1, "test": 2}  # of two equal pictures the one in the later split stays; all other splits come first
BLOCK = 512  # hashes compared at once: 14 MB against DFDC's held-out crops
COUNTS = np.array([byte.bit_count() for byte in range(256)], np.uint8)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A picture that can be left out, because `shows` stays: it stands in a later split, or earlier in the manifest."""

    example: Example
    shows: Example
    bits: int  # by which their hashes differ; -1 for the same bytes

    def __str__(self) -> str:
        how = "has the same bytes as" if self.bits < 0 else f"nearly equals ({self.bits} bits of 64 differ)"
        return (
            f"{self.example.file} of {self.example.split or 'no split'} {how} {self.shows.file} of {self.shows.split}"
        )


def hashes_of(examples: list[Example], pictures: Pictures) -> tuple[NDArray[np.uint64], list[str]]:
    """Perceptual hashes uint64 [N] and sha256 of the encoded pictures. Raises DataError for an unreadable one."""
    perceptual, exact = [], []
    for number, example in enumerate(examples, start=1):
        exact.append(hashlib.sha256(pictures.read(example.file)).hexdigest())
        perceptual.append(perceptual_hash(read_rgb(example, pictures)))
        if number % 1000 == 0 or number == len(examples):
            sys.stderr.write(f"\r{number}/{len(examples)} pictures hashed" + ("\n" if number == len(examples) else ""))
    return np.array(perceptual, np.uint64), exact


def find_duplicates(examples: list[Example], pictures: Pictures) -> list[Duplicate]:
    """Pictures with the bytes of another one, and those that nearly equal one of a later split; each is named once.

    Frames of one split that are nearly equal stay: they harm no figure. Raises DataError for an unreadable picture.
    """
    hashes, exact = hashes_of(examples, pictures)
    order = np.array([LATER.get(example.split, 0) for example in examples])
    stays: dict[str, int] = {}
    for i in np.argsort(-order, kind="stable"):
        stays.setdefault(exact[i], int(i))
    pairs = {i: (stays[key], -1) for i, key in enumerate(exact) if stays[key] != i}
    for later in (2, 1):
        early, held = np.flatnonzero(order < later), np.flatnonzero(order == later)
        for one, other, bits in _near(hashes, early, held):
            pairs.setdefault(one, (other, bits))
    return [Duplicate(examples[i], examples[pairs[i][0]], pairs[i][1]) for i in sorted(pairs)]


def _near(
    hashes: NDArray[np.uint64], early: NDArray[np.int64], held: NDArray[np.int64]
) -> Iterator[tuple[int, int, int]]:
    """Of `early` those within NEAR bits of one of `held` (both indices into `hashes`), that one, and the bits."""
    for start in range(0, len(early) if len(held) else 0, BLOCK):
        block = early[start : start + BLOCK]
        differ = np.bitwise_xor(hashes[block][:, None], hashes[held][None]).view(np.uint8)  # [B, H * 8]
        apart = COUNTS[differ].reshape(len(block), len(held), 8).sum(axis=2)
        nearest = apart.argmin(axis=1)
        for row in np.flatnonzero(apart.min(axis=1) <= NEAR):
            yield int(block[row]), int(held[nearest[row]]), int(apart[row, nearest[row]])
