import csv
from argparse import ArgumentParser
from pathlib import Path

import cv2

from training.facecrops import SIDE, add_arguments, label_of, main, split_of

SAMPLES = Path(__file__).parents[2] / "samples"


def test_a_folder_of_photos_becomes_crops_and_a_manifest(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for label, name in (
        ("real", "originals/collins.jpg"),
        ("fake", "fakes/collins_with_barkla.jpg"),
        ("real", "landscape.jpg"),
    ):
        target = photos / label / Path(name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((SAMPLES / name).read_bytes())
    parser = ArgumentParser()
    add_arguments(parser)
    assert main(parser.parse_args(["--root", str(photos), "--out", str(tmp_path / "crops")])) == 0
    rows = list(csv.DictReader((tmp_path / "crops.csv").read_text().splitlines()))
    assert [(row["file"], row["label"]) for row in rows] == [
        ("fake_collins_with_barkla.jpg", "fake"),
        ("real_collins.jpg", "real"),
    ]
    for row in rows:
        assert cv2.imread(str(tmp_path / "crops" / row["file"])).shape == (SIDE, SIDE, 3)
        assert row["source"] == "crops"
        assert row["split"] == split_of(row["file"])


def test_splits_are_steady_and_of_the_sizes_they_should_be() -> None:
    splits = [split_of(f"photo {number}") for number in range(2000)]
    assert splits == [split_of(f"photo {number}") for number in range(2000)]
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert abs(splits.count(split) / 2000 - share) < 0.03


def test_a_photo_without_a_label_folder_is_real() -> None:
    assert label_of("fake/1.jpg") == "fake"
    assert label_of("someone/1.jpg") == "real"
