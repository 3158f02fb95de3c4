"""Make the sample photos again from the packages they come from: `python samples/make.py FOLDER`, run from the root.

FOLDER holds the files that samples/README.md names, taken out of their packages under the names used here.
"""

import csv
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from training.data import Pixels, decode_rgb
from training.swaps import JPEG_QUALITY, encode, find_landmarks, swap_files

HERE = Path(__file__).parent
LONGEST = 1024  # pixels of the longer side
PORTRAITS = {
    "barkla": "Charles_Barkla.jpg",
    "collins": "astronaut.png",
    "curie": "Marie_Curie.jpg",
    "hopper": "grace_hopper.jpg",
    "mendeleev": "Dmitri_Mendeleev.jpg",
    "moseley": "Henry_Moseley.jpg",
}
GROUP = ("moseley", "collins", "mendeleev", "curie", "hopper", "barkla")  # two rows of three
TILE = (288, 240)  # height and width of each portrait in the group, pixels
ROTATED_BY = 6  # EXIF orientation: turn by 90 degrees clockwise to see the picture upright


def save(pixels: Pixels, path: Path) -> Pixels:
    """Write a photo as a swap of it would be written, and give it as a reader sees it.

    A swap has been through JPEG twice, as its target and as itself, so an original goes through it twice too.
    """
    again = decode_rgb(encode(pixels), path.name)
    path.write_bytes(encode(again))
    return decode_rgb(path.read_bytes(), path.name)


def portrait(path: Path) -> Pixels:
    """The photo at full size, or reduced to LONGEST."""
    pixels = decode_rgb(path.read_bytes(), path.name)
    scale = min(1.0, LONGEST / max(pixels.shape))
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)


def head(pixels: Pixels, name: str) -> Pixels:
    """Head and shoulders cut out of a portrait, as large as TILE."""
    points = find_landmarks(pixels, name)
    eyes = (points[0] + points[1]) / 2
    size = np.array([3.0, 3.6]) * np.hypot(*(points[3] - eyes))  # three times as wide as the mouth is below the eyes
    room = np.array([pixels.shape[1], pixels.shape[0]]) - size
    left, top = np.clip(eyes - size * (0.5, 0.42), 0, room).astype(int)
    width, height = size.astype(int)
    cut = pixels[top : top + height, left : left + width]
    return cv2.resize(cut, TILE[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)


def main(folder: Path) -> None:
    """Write every picture beside this file; the swaps are those that pairs.csv lists."""
    originals = HERE / "originals"
    photos = {name: save(portrait(folder / file), originals / f"{name}.jpg") for name, file in PORTRAITS.items()}
    save(portrait(folder / "china.jpg"), HERE / "landscape.jpg")
    heads = [head(photos[name], name) for name in GROUP]
    save(np.vstack([np.hstack(heads[:3]), np.hstack(heads[3:])]), HERE / "group.jpg")
    turned = Image.fromarray(np.rot90(photos["hopper"]))
    exif = Image.Exif()
    exif[0x0112] = ROTATED_BY
    turned.save(HERE / "rotated.jpg", quality=JPEG_QUALITY, subsampling="4:2:0", exif=exif)
    with (HERE / "pairs.csv").open(newline="") as file:
        for pair in csv.DictReader(file):
            swap_files(HERE / pair["original"], HERE / pair["source"], HERE / pair["fake"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
