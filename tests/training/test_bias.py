"""The mending on made-up data: blue fakes and red real faces from `dfdc`, red real ones from `ffhq`."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.batches import open_pools
from training.bias import HeldOut, make_subset, markdown, measured, table_of, variants
from training.config import TrainConfig
from training.data import DataError, open_pictures, read_manifest

ROOT = Path(__file__).parents[2]
REAL, FAKE = 4, 16


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what `prepare` leaves behind, and its data folder."""
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIELD_DATA", str(tmp_path))
    folder = tmp_path / "var" / "data"
    for source in ("dfdc", "ffhq"):
        (folder / source).mkdir(parents=True)
        with (folder / f"{source}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("file", "label", "group", "split", "source", "source_width"))
            for number in range(60):
                label, split = ("real", "fake")[number % 2], ("train", "train", "train", "val", "test")[number // 2 % 5]
                pixels = rng.integers(0, 90, (64, 64, 3), np.uint8)
                pixels[..., 0 if label == "fake" else 2] += 120
                name = f"{source}-{number}.png"
                cv2.imwrite(str(folder / source / name), pixels)
                rows.writerow((name, label, name, split, source, 60 + 40 * (number // 2 % 3)))
    with zipfile.ZipFile(tmp_path / "dfdc_faces_224.zip", "w") as archive:
        for path in (folder / "dfdc").iterdir():
            archive.write(path, path.name)
    return tmp_path


@pytest.fixture
def base() -> TrainConfig:
    return TrainConfig(sources=(), images=32, batch=8, input_size=64, loaders=0)


def held(prepared: Path, source: str) -> HeldOut:
    folder = prepared / "var" / "data"
    examples = [e for e in read_manifest(folder / f"{source}.csv") if e.split != "train"]
    return HeldOut(examples, open_pictures(folder / source))


def test_the_subset_has_one_real_face_to_four_fakes_and_is_the_same_each_time(prepared: Path) -> None:
    make_subset(prepared / "out", REAL, FAKE)
    first = {name: (prepared / "out" / f"{name}.csv").read_text() for name in ("dfdc", "ffhq", "mixed")}
    subset = read_manifest(prepared / "out" / "dfdc.csv")
    assert [e.label for e in subset].count(0) == REAL
    assert [e.label for e in subset].count(1) == FAKE
    assert {e.split for e in subset} == {"train"}
    mixed = read_manifest(prepared / "out" / "mixed.csv")
    assert [e.label for e in mixed].count(0) == [e.label for e in mixed].count(1) == FAKE
    assert sum(e.file.startswith("ffhq") for e in mixed) == FAKE - REAL
    assert {e.source for e in mixed} == {"mixed"}
    make_subset(prepared / "again", REAL, FAKE)
    assert first == {name: (prepared / "again" / f"{name}.csv").read_text() for name in first}


def test_each_training_draws_what_its_counts_say(prepared: Path, base: TrainConfig) -> None:
    make_subset(prepared / "out", REAL, FAKE)
    long = replace(base, images=8000)
    for variant in variants(prepared / "out", long, REAL, FAKE):
        pools = open_pools(variant.config, "train")
        total = sum(pool.share for pool in pools)
        expected: dict[tuple[str, str], float] = {}
        for pool in pools:
            for example in pool.examples:
                key = (example.file.split("-")[0].upper(), "real" if pool.kind == "real" else "fake")
                expected[key] = expected.get(key, 0) + long.images * pool.share / total / len(pool.examples)
        assert {key: round(value) for key, value in expected.items()} == variant.drawn


def test_a_variant_is_measured_once_and_on_held_out_crops(
    prepared: Path, base: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    make_subset(prepared / "out", REAL, FAKE)
    before = variants(prepared / "out", base, REAL, FAKE)[0]
    dfdc, ffhq = held(prepared, "dfdc"), held(prepared, "ffhq")
    found = measured(before, prepared / "out", dfdc, ffhq)
    assert "before: 32 crops" in capsys.readouterr().err
    assert found["slices"]["DFDC test"]["real"] == found["slices"]["DFDC test"]["fake"] == 6
    assert found["slices"]["StyleGAN against FFHQ"]["real"] == 12
    assert set(found["slices"]) > {"DFDC test, face 0 to 100 px", "DFDC fakes against FFHQ real"}
    assert 0 <= found["source_by_fake_score_auc"] <= 1
    assert measured(before, prepared / "out", dfdc, ffhq) == found
    assert capsys.readouterr().err == ""


def test_the_whole_command_is_tracked_and_writes_figures_and_pictures(prepared: Path) -> None:
    script = """
import json
from pathlib import Path
from training import bias, track
from training.config import TrainConfig
from training.train import imagenet_start
bias.trained = lambda variant: imagenet_start(64, 0.2).eval()  # training itself has a test of its own
base = TrainConfig(sources=(), images=16, batch=8, input_size=64, loaders=0)
bias.run_all(Path("out"), Path("docs"), base, 4, 16)
run = track.runs("bias")[0]
print(json.dumps([run["status"]["state"], track.artifacts(run["metadata"]["uid"]), run["status"]["results"]]))
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLRUN")}
    env |= {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    state, kept, results = json.loads(done.stdout.splitlines()[-1])
    assert state == "completed"
    assert {"bias_counts", "bias_slices", "bias"} <= set(kept)
    record = json.loads(Path("docs/bias.json").read_text())
    assert list(record["variants"]) == ["before", "inflated", "mended"]
    for name, row in record["variants"].items():
        assert results[f"{name}_dfdc_auc"] == row["slices"]["DFDC test"]["auc"]
    for picture in ("bias_counts", "bias_slices"):
        assert cv2.imread(f"docs/pictures/{picture}.png").shape[1] > 600


def test_what_was_not_prepared_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"var/data/dfdc\.csv cannot be read"):
        make_subset(tmp_path / "out", REAL, FAKE)


def test_the_document_says_what_the_record_says() -> None:
    record = json.loads((ROOT / "docs" / "bias.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "bias.md").read_text(encoding="utf-8")
    assert markdown(table_of(record)) in text
