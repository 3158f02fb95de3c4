"""`make bench` at a tiny size: every level runs to its end, measures what it says, and prints its bars."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bench import contender, finding, photos, stages, table
from benchmarks.bench.contender import ROOT, contending
from benchmarks.bench.scanning import Scanning
from pipeline.scan import Scanner
from tests.pipeline.photos import SAMPLES

BARS = {
    "model": {"blazeface_back_over_litert", "blazeface_short_over_litert"},
    "pipeline": {"recall_from_32_px", "pipeline_over_reference", "pipeline_of_limit"},
    "system": {"system_of_pipeline", "busy_p95_less_idle_p95_ms", "largest_other_stage"},
    "growth": {"two_workers_over_one"},
    "long": {"cpu_of_an_image_long_over_short", "worker_mib_per_10000_images"},
}
PICTURE = {"model": "model", "pipeline": "pipeline", "system": "flame", "long": "memory"}
PAGE = ROOT / "docs" / "performance.md"


def needs(*pythons: Path) -> None:
    missing = [str(python) for python in pythons if not python.exists()]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"No {', '.join(missing)}: `make bench` makes it.")


def needs_data() -> None:
    try:
        photos.data_folder()
    except photos.NoDataError as error:
        if os.environ.get("CI") != "true":
            pytest.skip(str(error))
        raise


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("level", BARS)
def test_a_level_fills_the_page_and_prints_a_bar_for_each_promise(level: str, tmp_path: Path) -> None:
    needs(contender.TRAINING, contender.BASELINES)
    needs_data()
    shutil.copy(PAGE, tmp_path)
    line = (sys.executable, "-m", "benchmarks.bench", level, "--tiny", "--out", str(tmp_path))
    # Threads that spin for one another take forever on a machine that is busy with other tests.
    calm = os.environ | {"OMP_WAIT_POLICY": "passive"}
    ran = subprocess.run(line, cwd=ROOT, env=calm, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr  # so little holds no bar
    printed = {words[1] for words in map(str.split, ran.stdout.splitlines()) if words and words[0] == "bar"}
    assert printed == BARS[level], ran.stderr
    record = json.loads((tmp_path / "performance.json").read_text())
    assert_measured(level, record[level])
    page = (tmp_path / "performance.md").read_text()
    assert page == table.filled(PAGE.read_text(), record)
    assert all(f"`{bar}`" in page for bar in BARS[level])
    if level in PICTURE:
        picture = tmp_path / "pictures" / f"performance-{PICTURE[level]}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert f"(pictures/{picture.name})" in page


def assert_measured(level: str, found: dict[str, Any]) -> None:
    match level:
        case "model":
            assert {row["engine"] for row in found["rows"]} >= {"ONNX Runtime", "torch, eager", "LiteRT"}
            assert all(row["images_per_second"] > 0 for row in found["rows"])
            assert found["gflop_per_image"]["blazeface-back"] == pytest.approx(0.377, abs=0.01)
        case "pipeline":
            (row,) = found["kinds"]
            assert row["faces_found"] == 1
            assert row["images_per_second"] > 0
            assert 0 < row["decode_share_of_limit"] < 1
            assert len(found["detectors"]) == len(finding.DETECTORS)
        case "system":
            assert sum(found["stages"].values()) == pytest.approx(1)
            assert next(iter(found["stages"])) == "networks"
            assert found["stages"]["JPEG decode"] > 0
            assert found["latency"]["idle"]["p95_ms"] > 0
        case "growth":
            assert all(rate > 0 for of in found.values() for rate in of["images_per_second"].values())
            assert found.keys() == {"system", "alone"}
        case _:
            assert found["long"]["images"] == 80
            assert found["worker_mib"][0] > 10


def test_the_reference_finds_the_scanners_faces_with_its_scores() -> None:
    needs(contender.TRAINING)
    paths = sorted([*SAMPLES.glob("originals/*.jpg"), SAMPLES / "group.jpg"])
    differences = []
    with Scanner() as scanner, contending("reference") as reference:
        for path, scan in zip(paths, scanner.scan([path.read_bytes() for path in paths]), strict=True):
            seen = sorted(reference.ask("look", photo=str(path)))
            assert len(seen) == len(scan.faces) > 0
            faces = sorted(scan.faces, key=lambda face: face.box.left)
            for face, (left, top, *_, detection_score, score) in zip(faces, seen, strict=True):
                assert (left, top) == pytest.approx((face.box.left, face.box.top), abs=0.05 * face.box.width)
                assert detection_score == pytest.approx(face.detection_score, abs=0.05)
                differences.append(abs(score - face.score))
    # Another way of resizing moves a box by a pixel, and a pixel moves the score of a face that is neither.
    assert len(differences) == 12
    assert np.median(differences) < 0.1


def test_a_photo_has_as_many_faces_as_its_kind_says() -> None:
    needs_data()
    kind = photos.Kind("512 px", 5)
    with Scanner() as scanner:
        scans = list(scanner.scan([path.read_bytes() for path in photos.photos_of(kind)]))
    assert all(scan.image and (scan.image.width, scan.image.height) == (512, 384) for scan in scans)
    assert np.mean([len(scan.faces) for scan in scans]) == pytest.approx(5, abs=0.5)


def test_a_stamped_photo_is_the_same_picture_in_other_bytes() -> None:
    content = (SAMPLES / "group.jpg").read_bytes()
    stamped = photos.stamped(content, "another one")
    assert stamped != content
    with Scanner() as scanner:
        one, other = scanner.scan([content, stamped])
    assert one.faces == other.faces
    assert one.image
    assert other.image
    assert one.image.sha256 != other.image.sha256


def test_the_limit_makes_the_passes_and_decodes_of_the_scan_and_no_others() -> None:
    needs_data()
    photo = str(photos.photos_of(photos.BAR_KIND)[0])
    scanning = Scanning()
    try:
        found = scanning.limit([photo])
        recording = scanning._recordings[photo,]
    finally:
        scanning.close()
    passes: Counter[str] = Counter()
    for (network, _), images in recording.images.items():
        passes[network] += images
    assert passes["blazeface-back"] == 3  # a photo of this size is looked at in three sizes
    assert passes["blazeface-short"] >= passes["shield-lite0"] == 1
    assert 1 <= len(recording.decodes) <= 2  # small, and in full where a face was found
    assert found["seconds"] == found["decode"] + found["networks"] > 0


def test_each_drawn_face_is_found_once() -> None:
    drawn = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    boxes = np.array([[0, 0, 10, 9], [0, 1, 10, 10], [21, 0, 31, 10], [50, 50, 60, 60]], np.float32)
    assert finding.matched(drawn, boxes, 0.5).tolist() == [0, -1, 1, -1]
    assert finding.matched(drawn, boxes[:0], 0.5).tolist() == []


@pytest.mark.parametrize(
    ("where", "stage"),
    [
        ("worker/loop:_run;pipeline/scan:scan;pipeline/engine:run", "networks"),
        (stages.NATIVE, "networks"),
        (stages.DECODERS, "JPEG decode"),
        ("worker/loop:_run;shield/dispatch:record", "shield/dispatch"),
    ],
)
def test_cpu_time_belongs_to_the_stage_that_was_at_work_last(where: str, stage: str) -> None:
    assert stages.stage_of(where) == stage


def test_shares_are_of_the_time_between_two_writings(tmp_path: Path) -> None:
    early, late = tmp_path / "early.json", tmp_path / "late.json"
    early.write_text(json.dumps({"worker/loop:_run": 5.0}))
    late.write_text(json.dumps({"worker/loop:_run": 6.0, "pipeline/engine:run": 3.0}))
    assert stages.shares(early, late) == {"worker/loop:_run": 0.25, "pipeline/engine:run": 0.75}


def test_the_page_shows_the_figures_that_were_measured() -> None:
    record = ROOT / "docs" / "performance.json"
    if record.exists():
        assert table.filled(PAGE.read_text(), json.loads(record.read_text())) == PAGE.read_text()
    else:
        assert f"{table.BEGIN}\n\n{table.END}" in PAGE.read_text()  # nothing is claimed that nobody measured
