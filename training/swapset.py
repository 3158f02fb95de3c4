"""Face swaps between honest photos, each beside its own original: a kind of fake that no training has seen.

Made by training/swaps.py, whose blending (Lab recolouring under an eroded landmark mask, or Poisson's equation)
training does not use. Original and swap are saved at the same JPEG quality and go through the detector whole.
"""

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.detections import Floats
from training.data import Pixels, decode_rgb, open_pictures
from training.facecrops import photo_names
from training.subject import LANDMARKS, Subject
from training.swaps import Blend, encode, swap_face


@dataclass(frozen=True, slots=True)
class Portrait:
    """A photo uint8 [H, W, 3] and its largest face as a detection [17]."""

    name: str
    photo: Pixels
    face: Floats


@dataclass(frozen=True, slots=True)
class Pair:
    """The same face crop before and after the swap: uint8 [S, S, 3], as a scan cuts it."""

    original: Pixels
    swap: Pixels


def portraits(subject: Subject, root: Path, count: int = 0, seed: int = 1) -> Iterator[Portrait]:
    """Photos with a face, re-encoded as swaps will be; `count` of them drawn by `seed`, or all where it is 0."""
    pictures = open_pictures(root)
    names = photo_names(root)
    chosen = random.Random(seed).sample(names, min(count, len(names))) if count else names
    for done, name in enumerate(chosen, start=1):
        photo = decode_rgb(encode(decode_rgb(pictures.read(name), name)), name)
        face = subject.face(photo)
        if face is not None:
            yield Portrait(name, photo, face)
        if done % 50 == 0 or done == len(chosen):
            sys.stderr.write(f"\r{done}/{len(chosen)} photos" + ("\n" if done == len(chosen) else ""))


def pairs(subject: Subject, people: list[Portrait], blend: Blend) -> Iterator[Pair]:
    """Each person with the face of another; people whose faces do not fit or are not found again are left out."""
    for number, wearer in enumerate(people):
        donor = people[(number + 7) % len(people)]
        try:
            swapped = swap_face(wearer.photo, _points(wearer.face), donor.photo, _points(donor.face), blend)
        except ValueError:
            continue  # the two faces do not overlap: no swap app would have shown this
        photo = decode_rgb(encode(swapped), wearer.name)
        face = subject.face(photo)
        if face is not None:
            yield Pair(subject.crop(wearer.photo, wearer.face), subject.crop(photo, face))


def _points(face: Floats) -> Floats:
    return np.asarray(face[LANDMARKS].reshape(6, 2), np.float32)
