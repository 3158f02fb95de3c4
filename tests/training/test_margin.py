"""Margins on sample photos, and the framing of crops whose margin is known."""

import json
import zipfile
from argparse import ArgumentParser
from pathlib import Path

import cv2
import pytest

from training.data import decode_rgb
from training.facecrops import faces_of, open_detector, split_of
from training.margin import MARGINS, add_arguments, box_sides, held_out, main
from training.subject import open_subject

ORIGINALS = sorted((Path(__file__).parents[2] / "samples" / "originals").glob("*.jpg"))
FAKES = sorted((Path(__file__).parents[2] / "samples" / "fakes").glob("*.jpg"))


def named(label: str, wanted: str, count: int) -> list[str]:
    """Names of photos that fall into this split, or into any but it with a minus before it."""
    names = (f"{number}.jpg" for number in range(1000))
    chosen = [name for name in names if (split_of(f"{label}_{name}") == wanted.lstrip("-")) != wanted.startswith("-")]
    return [f"{label}/{name}" for name in chosen[:count]]


@pytest.fixture
def portraits(tmp_path: Path) -> Path:
    """Six honest portraits and six swaps that are held out, and one of each that is not."""
    root = tmp_path / "ffhq_stylegan_256.zip"
    with zipfile.ZipFile(root, "w") as archive:
        for label, photos in (("real", ORIGINALS), ("fake", FAKES[:6])):
            names = [*named(label, "-train", len(photos)), *named(label, "train", 1)]
            for photo, name in zip([*photos, photos[0]], names, strict=True):
                pixels = cv2.imread(str(photo))
                scale = 256 / max(pixels.shape)
                archive.writestr(name, cv2.imencode(".jpg", cv2.resize(pixels, None, fx=scale, fy=scale))[1].tobytes())
    return root


def test_only_held_out_photos_of_the_label_are_taken(portraits: Path) -> None:
    subject = open_subject()
    people = held_out(subject, portraits, "real", 10)
    assert sorted(person.name for person in people) == sorted(named("real", "-train", len(ORIGINALS)))
    assert len(held_out(subject, portraits, "fake", 2)) == 2


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_box_in_a_crop_tells_the_margin_it_was_cut_with(margin: float) -> None:
    detector = open_detector()
    photos = [decode_rgb(path.read_bytes(), path.name) for path in ORIGINALS]
    crops = (faces_of(detector, photo, margin)[0].crop for photo in photos)
    sides = box_sides(detector, crops)
    assert len(sides) == len(ORIGINALS)
    assert (1 / sorted(sides)[len(sides) // 2] - 1) / 2 == pytest.approx(margin, abs=0.04)


def test_the_command_measures_every_margin(
    portraits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = portraits.parent
    monkeypatch.setenv("SHIELD_DATA", str(data))
    face = faces_of(open_detector(), decode_rgb(ORIGINALS[0].read_bytes(), "photo"), margin=0.1)[0].crop
    with zipfile.ZipFile(data / "dfdc_faces_224.zip", "w") as archive:
        archive.writestr("a.jpg", cv2.imencode(".jpg", cv2.cvtColor(face, cv2.COLOR_RGB2BGR))[1].tobytes())
    (data / "dfdc_faces_224.csv").write_text("file,label,group,split\na.jpg,real,a,test\n")
    parser = ArgumentParser()
    add_arguments(parser)
    out = data / "margin.json"
    assert main(parser.parse_args(["--out", str(out), "--people", "3"])) == 0
    record = json.loads(out.read_text())
    assert [row["margin"] for row in record["rows"]] == list(MARGINS)
    assert record["dfdc"]["margin"] == pytest.approx(0.1, abs=0.04)
    assert len({row["honest_mean_score"] for row in record["rows"]}) == len(MARGINS)
    assert record["best_for_swaps"] in MARGINS
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("margin ") for line in lines) == len(MARGINS)
    assert lines[-1] == f"best margin for swaps {record['best_for_swaps']:.2f}, shipped {record['shipped_margin']:.2f}"


def test_without_data_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHIELD_DATA", str(tmp_path))
    parser = ArgumentParser()
    add_arguments(parser)
    assert main(parser.parse_args(["--out", str(tmp_path / "margin.json")])) == 2
    assert "ffhq_stylegan_256.zip" in capsys.readouterr().err
