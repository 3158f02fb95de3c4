"""Pictures that stand on both sides of a split: the same bytes, or nearly the same to the eye."""

import hashlib
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.hashes import perceptual_hash
from training.data import Example, Pictures, decode_rgb

NEAR = 4  # bits of 64: pairs of DFDC frames of one scene lie within it, other people's portraits do not
BLOCK = 512  # hashes compared at once


@dataclass(frozen=True, slots=True)
class Leak:
    """A picture outside the held-out split that shows what a held-out picture shows."""

    file: str
    held_out: str
    distance: int  # bits; -1 for the same bytes


def hashes_of(examples: list[Example], pictures: Pictures) -> tuple[NDArray[np.uint64], list[str]]:
    """Perceptual hashes uint64 [N] and sha256 of the encoded pictures. Raises DataError for an unreadable one."""
    perceptual, exact = [], []
    for number, example in enumerate(examples, start=1):
        encoded = pictures.read(example.file)
        exact.append(hashlib.sha256(encoded).hexdigest())
        perceptual.append(perceptual_hash(decode_rgb(encoded, example.file)))
        if number % 1000 == 0 or number == len(examples):
            sys.stderr.write(f"\r{number}/{len(examples)} pictures hashed" + ("\n" if number == len(examples) else ""))
    return np.array(perceptual, np.uint64), exact


def find_leaks(examples: list[Example], pictures: Pictures, held_out: tuple[str, ...] = ("val", "test")) -> list[Leak]:
    """Pictures of `train` that show what a picture of a held-out split shows; each is named once."""
    hashes, exact = hashes_of(examples, pictures)
    train = np.array([i for i, e in enumerate(examples) if e.split not in held_out], np.int64)
    held = np.array([i for i, e in enumerate(examples) if e.split in held_out], np.int64)
    leaks: dict[int, Leak] = {}
    if not (len(train) and len(held)):
        return []
    by_bytes = {exact[i]: i for i in held}
    for i in train:
        if exact[i] in by_bytes:
            leaks[int(i)] = Leak(examples[i].file, examples[by_bytes[exact[i]]].file, -1)
    for start in range(0, len(train), BLOCK):
        block = train[start : start + BLOCK]
        bits = np.bitwise_xor(hashes[block][:, None], hashes[held][None]).view(np.uint8)
        apart = COUNTS[bits].reshape(len(block), len(held), 8).sum(axis=2)
        nearest = apart.argmin(axis=1)
        for row, column in enumerate(nearest):
            if apart[row, column] <= NEAR and int(block[row]) not in leaks:
                other = examples[held[column]].file
                leaks[int(block[row])] = Leak(examples[block[row]].file, other, int(apart[row, column]))
    return [leaks[i] for i in sorted(leaks)]


COUNTS = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)
