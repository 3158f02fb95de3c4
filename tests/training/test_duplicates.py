"""Duplicates among sample photos: copied, compressed again, mirrored into other splits."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data import DataError, open_pictures, read_manifest
from training.duplicates import NEAR, find_duplicates
from training.prepare import write_source

ORIGINALS = Path(__file__).parents[2] / "samples" / "originals"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three people in train; two of them again in val and test, and one twice in train."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("collins", "curie", "barkla"):
        (folder / f"{name}.jpg").write_bytes((ORIGINALS / f"{name}.jpg").read_bytes())
    curie = cv2.imread(str(folder / "curie.jpg"))
    small = cv2.resize(curie, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "curie-small.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 40])
    (folder / "collins-copy.jpg").write_bytes((folder / "collins.jpg").read_bytes())
    (folder / "barkla-copy.jpg").write_bytes((folder / "barkla.jpg").read_bytes())
    return folder


ROWS = (
    ("collins.jpg", "train"),
    ("curie.jpg", "train"),
    ("barkla.jpg", "train"),
    ("curie-small.jpg", "val"),
    ("collins-copy.jpg", "test"),
    ("barkla-copy.jpg", "train"),
)


def rows(chosen: tuple[tuple[str, str], ...] = ROWS) -> list[list[str]]:
    return [[file, "real", file, split, "photos", "", ""] for file, split in chosen]


def manifest_of(photos: Path, chosen: tuple[tuple[str, str], ...]) -> Path:
    path = photos.with_suffix(".csv")
    path.write_text("file,label,split\n" + "".join(f"{file},real,{split}\n" for file, split in chosen))
    return path


def test_what_is_shown_by_a_later_split_or_twice_is_found(photos: Path) -> None:
    found = find_duplicates(read_manifest(manifest_of(photos, ROWS)), open_pictures(photos))
    assert [(d.example.file, d.shows.file) for d in found] == [
        ("collins.jpg", "collins-copy.jpg"),
        ("curie.jpg", "curie-small.jpg"),
        ("barkla-copy.jpg", "barkla.jpg"),
    ]
    assert found[0].bits == found[2].bits == -1
    assert 0 <= found[1].bits <= NEAR
    assert "collins.jpg of train has the same bytes as collins-copy.jpg of test" in str(found[0])


def test_a_validation_picture_that_the_test_shows_is_found_too(photos: Path) -> None:
    chosen = (("curie.jpg", "test"), ("curie-small.jpg", "val"), ("barkla.jpg", "val"))
    found = find_duplicates(read_manifest(manifest_of(photos, chosen)), open_pictures(photos))
    assert [d.example.file for d in found] == ["curie-small.jpg"]


def test_frames_of_one_split_that_are_nearly_equal_stay(photos: Path) -> None:
    chosen = (("curie.jpg", "train"), ("curie-small.jpg", "train"), ("barkla.jpg", "test"))
    assert find_duplicates(read_manifest(manifest_of(photos, chosen)), open_pictures(photos)) == []


def test_every_pair_is_found_however_many_pictures_there_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "many").mkdir()
    names = []
    for number in range(700):  # more than one block
        pixels = cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (32, 32), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / "many" / f"{number}.png"), pixels)
        names.append((f"{number}.png", "train"))
        if number in (3, 690):
            cv2.imwrite(str(tmp_path / "many" / f"{number}.jpg"), pixels)
            names.append((f"{number}.jpg", "test"))
    manifest = manifest_of(tmp_path / "many", tuple(names))
    found = find_duplicates(read_manifest(manifest), open_pictures(tmp_path / "many"))
    assert [(d.example.file, d.shows.file) for d in found] == [("3.png", "3.jpg"), ("690.png", "690.jpg")]


def test_a_prepared_source_is_without_them_and_says_which(photos: Path, tmp_path: Path) -> None:
    write_source(tmp_path, "people", photos, rows())
    assert [example.file for example in read_manifest(tmp_path / "people.csv")] == [
        "barkla.jpg",
        "curie-small.jpg",
        "collins-copy.jpg",
    ]
    noted = list(csv.DictReader((tmp_path / "people-left-out.csv").read_text().splitlines()))
    assert [row["file"] for row in noted] == ["collins.jpg", "curie.jpg", "barkla-copy.jpg"]
    assert sorted(path.name for path in tmp_path.glob("people*")) == ["people-left-out.csv", "people.csv"]


def test_an_unreadable_picture_is_named_with_its_row(photos: Path) -> None:
    (photos / "barkla.jpg").write_bytes(b"no picture")
    manifest = manifest_of(photos, ROWS)
    with pytest.raises(DataError, match=r"photos\.csv:4: barkla\.jpg is not a picture"):
        find_duplicates(read_manifest(manifest), open_pictures(photos))
