"""Fine-tuning the detector on small photos cut from a sample, with the box that the shipped detector draws there."""

import csv
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.crops import resize
from pipeline.weights import load_card
from training.config import TrainConfig
from training.data import FolderPictures, decode_rgb
from training.detector import (
    NAME,
    SHIPPED,
    add_arguments,
    fine_tune,
    main,
    multibox_loss,
    start,
    take_step,
    write_weights,
)
from training.detector_data import COLUMNS, BoxedPhoto, Framing, draw_batch, read_boxes
from training.facecrops import open_detector

SAMPLE = Path(__file__).parents[2] / "samples" / "group.jpg"
AS_DRAWN = Framing(wide=0.5, high=0.5, right=0.0, down=0.0)


class Noted:
    """A run that notes nothing: MLRun takes seconds, and what it keeps has tests of its own."""

    def log_result(self, key: str, value: float) -> None:
        assert key.startswith("detector_")
        assert value >= 0


@contextmanager
def untracked() -> Iterator[Noted]:
    yield Noted()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four versions of a group photo, unlike enough to be scenes of their own, and boxes.csv."""
    out = tmp_path_factory.mktemp("boxed")
    photo = decode_rgb(SAMPLE.read_bytes(), SAMPLE.name)
    photo = resize(photo, 320, round(320 * photo.shape[0] / photo.shape[1]))
    versions = {"plain": photo, "mirrored": photo[:, ::-1], "turned": photo[::-1], "dark": photo[:, ::-1][::-1] // 2}
    faces = open_detector().find([photo])[0][:, :4]
    assert len(faces) >= 2
    height, width = photo.shape[:2]
    with (out / "boxes.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for name, pixels in versions.items():
            cv2.imwrite(str(out / f"{name}.png"), cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR))
            boxes = faces.copy()
            if name in ("mirrored", "dark"):
                boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            if name in ("turned", "dark"):
                boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
            table.writerows((f"{name}.png", width, height, "sin_mascarilla", *box) for box in boxes.tolist())
    return out


@pytest.fixture
def photos(folder: Path) -> list[BoxedPhoto]:
    return read_boxes(folder / "boxes.csv")


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(
        sources=(), images=16, batch=4, input_size=256, peak_rate=2e-4, ema=0.9, warmup=0.1, checkpoint_every=2
    )


def test_the_loss_goes_down_on_a_few_photos(config: TrainConfig, photos: list[BoxedPhoto], folder: Path) -> None:
    longer = replace(config, images=15 * config.batch)
    state, pictures = start(longer), FolderPictures(folder)
    batch = draw_batch(longer, photos, pictures, AS_DRAWN, 0)
    losses = [take_step(state, longer, batch) for _ in range(longer.steps)]
    assert losses[-1] < 0.6 * losses[0], losses


def test_landmarks_keep_their_weights_and_boxes_do_not(
    config: TrainConfig, photos: list[BoxedPhoto], folder: Path, tmp_path: Path
) -> None:
    before = load_file(load_card(SHIPPED).file("safetensors"))
    after = fine_tune(config, photos, FolderPictures(folder), AS_DRAWN, tmp_path)
    for name in ("fine_boxes.weight", "coarse_boxes.weight"):
        old, new = (state[name].float().unflatten(0, (-1, 16)) for state in (before, after))
        assert torch.equal(old[:, 4:], new[:, 4:]), name
    old, new = (state["fine_boxes.weight"].float().unflatten(0, (-1, 16)) for state in (before, after))
    assert not torch.equal(old[:, :4], new[:, :4])


def test_a_fine_tuning_cut_short_resumes_to_the_same_weights(
    config: TrainConfig, photos: list[BoxedPhoto], folder: Path, tmp_path: Path
) -> None:
    pictures = FolderPictures(folder)
    whole = fine_tune(config, photos, pictures, AS_DRAWN, tmp_path / "whole")
    fine_tune(config, photos, pictures, AS_DRAWN, tmp_path / "cut")
    last = tmp_path / "cut" / "step-0000004.safetensors"
    last.write_bytes(last.read_bytes()[:1000])  # as if killed and torn: the checkpoint at step 2 is left
    resumed = fine_tune(config, photos, pictures, AS_DRAWN, tmp_path / "cut")
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, msg=name)


def test_only_the_hardest_negatives_count_and_neutral_anchors_never() -> None:
    labels = torch.tensor([[1, -1, 0, 0, 0, 0, 0]])
    logits = torch.tensor([[0.0, 50.0, -50.0, 2.0, 0.0, -2.0, -50.0]])
    targets = torch.tensor([10.0, 10.0, 20.0, 20.0]).expand(1, 7, 4)
    boxes = torch.zeros(1, 7, 16)
    boxes[..., :4] = targets
    exact = multibox_loss(boxes, logits, labels, targets)
    expected = np.log(2) + sum(np.log1p(np.exp(logit)) for logit in (2.0, 0.0, -2.0))
    assert float(exact) == pytest.approx(expected, rel=1e-5)
    boxes[0, 0, 0] += 20  # a whole side off: 1 - beta / 2 on the linear part, twice
    assert float(multibox_loss(boxes, logits, labels, targets)) == pytest.approx(expected + 2 * 0.95, rel=1e-5)
    boxes[0, 2:] = 0
    boxes[..., 4:] = 99.0
    assert float(multibox_loss(boxes, logits, labels, targets)) == pytest.approx(expected + 2 * 0.95, rel=1e-5)


def test_written_weights_load_as_the_detector_loads_its_own(tmp_path: Path) -> None:
    state = {name: tensor.float() for name, tensor in load_file(load_card(SHIPPED).file("safetensors")).items()}
    card = load_card(write_weights(state, {"trained_on": {"photos": "0"}}, tmp_path))
    assert card.name == NAME
    assert card.weights_sha256 == load_card(SHIPPED).weights_sha256  # the same numbers make the same file
    assert card.file("onnx").stat().st_size > 100_000


def arguments(folder: Path, out: Path, *words: str) -> Namespace:
    parser = ArgumentParser()
    add_arguments(parser)
    fixed = ["--photos", str(folder), "--boxes", str(folder / "boxes.csv"), "--portraits", str(folder)]
    return parser.parse_args([*fixed, "--out", str(out), *words])


def test_the_command_measures_out_of_fold_and_writes_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.track.run", lambda *_: untracked())
    monkeypatch.setattr("training.track.log_table", lambda *_: None)
    assert main(arguments(folder, tmp_path, "--folds", "2", "--steps", "1", "--weights", "--docs", str(tmp_path))) == 0
    report = json.loads((tmp_path / "detector.json").read_text())
    assert report["rows"][0]["slice"] == "all"
    assert report["rows"][0]["faces"] == len(list(csv.DictReader((folder / "boxes.csv").open())))
    assert report["portraits"]["photos"] == 4
    assert load_card(tmp_path / "all" / f"{NAME}.json").trained_on["photos"] == "4"
    page = (tmp_path / "detector.md").read_text()
    assert f"| all | {report['rows'][0]['faces']} |" in page
    assert "**Decision**: " in page
    assert "aim detector_ap_after" in capsys.readouterr().out
    assert main(arguments(folder, tmp_path, "--folds", "2", "--steps", "2")) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--folds", "1"), ("--folds", "9"), ("--boxes", "nowhere.csv")])
def test_the_command_says_what_it_cannot_use(
    words: tuple[str, ...], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.track.run", lambda *_: untracked())
    assert main(arguments(folder, tmp_path, *words)) == 2
