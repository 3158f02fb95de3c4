from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.config import TrainConfig, parse_config
from training.data import DataError
from training.train import main, rate_at, spread, start, train


def averages(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_file(path).items() if name.startswith("average.")}


def test_a_training_cut_short_resumes_to_the_same_weights(config: TrainConfig, tmp_path: Path) -> None:
    whole = train(config, tmp_path / "whole")
    partial = train(config, tmp_path / "cut")
    partial.unlink()  # as if killed between the checkpoint at step 2 and the end
    again = train(config, tmp_path / "cut")
    assert again.name == whole.name == "step-0000004.safetensors"
    resumed = averages(again)
    for name, tensor in averages(whole).items():
        torch.testing.assert_close(resumed[name], tensor, msg=name)


def test_a_broken_checkpoint_falls_back_to_the_one_before(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = train(config, tmp_path)
    last.write_bytes(last.read_bytes()[:1000])
    assert averages(train(config, tmp_path))
    errors = capsys.readouterr().err
    assert "is broken" in errors
    assert "resumed at step 2" in errors


def test_the_rate_warms_up_stays_and_decays_to_nothing(config: TrainConfig) -> None:
    long = replace(config, images=8000, warmup=0.1, decay=0.3)
    rates = [rate_at(step, long) for step in range(long.steps)]
    assert rates[0] < rates[50] < rates[99] == long.peak_rate
    assert rates[699] == long.peak_rate
    assert rates[700:] == sorted(rates[700:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_settings_survive_their_checkpoint(config: TrainConfig) -> None:
    assert parse_config(config.as_json()) == config


def test_a_training_can_start_from_another_ones_average(config: TrainConfig, tmp_path: Path) -> None:
    first = train(config, tmp_path / "first")
    state = start(replace(config, start=str(first)))
    kept = averages(first)
    for name, tensor in state.average.state_dict().items():
        torch.testing.assert_close(tensor, kept[f"average.{name}"], msg=name)


def test_the_views_of_a_crop_are_drawn_together(config: TrainConfig, tmp_path: Path) -> None:
    assert spread(torch.tensor([1.0, 3.0, 2.0, 2.0]), views=2).item() == pytest.approx(0.5)
    assert spread(torch.tensor([1.0, 3.0]), views=1).item() == 0
    free, held = (
        averages(train(replace(config, views=2, consistency=weight), tmp_path / str(weight))) for weight in (0.0, 5.0)
    )
    assert any(not tensor.equal(held[name]) for name, tensor in free.items())


def test_a_start_that_is_no_checkpoint_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"not weights")
    with pytest.raises(DataError, match="holds no weights to start from"):
        start(replace(config, start=str(torn)))


@pytest.mark.parametrize("unknown", ['{"sources": [], "colour": 1}', "not json"])
def test_the_command_refuses_unusable_settings_and_says_why(
    unknown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(unknown)
    assert main(Namespace(config=path, out=tmp_path / "out", images=None)) == 2
    assert str(path) in capsys.readouterr().err
