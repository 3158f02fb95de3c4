"""A small labelled data set made on the fly: noise that leans red or blue, enough for a network to tell apart."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.config import SourceConfig, TrainConfig


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "crops.csv"
    (tmp_path / "crops").mkdir()
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label", "group", "split"))
        for number in range(24):
            label = ("real", "fake")[number % 2]
            pixels = rng.integers(0, 90, (64, 64, 3), np.uint8)
            pixels[..., 0 if label == "real" else 2] += 120
            cv2.imwrite(str(tmp_path / "crops" / f"{number}.png"), pixels)
            rows.writerow((f"{number}.png", label, f"group {number // 2}", "train" if number < 16 else "val"))
    return path


@pytest.fixture
def config(manifest: Path) -> TrainConfig:
    source = SourceConfig(str(manifest), str(manifest.with_suffix("")), real=2, fake=2, blend=1)
    return TrainConfig(
        sources=(source,),
        images=32,
        batch=8,
        input_size=64,
        checkpoint_every=2,
        validate_every=2,
        validate_crops=8,
        loaders=0,
    )
