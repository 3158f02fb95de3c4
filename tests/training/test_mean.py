from argparse import ArgumentParser
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.config import TrainConfig
from training.export import read_checkpoint
from training.mean import add_arguments, main
from training.train import save, start


def mean_command(*words: str | Path) -> int:
    parser = ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def checkpoint(config: TrainConfig, tmp_path: Path) -> Path:
    save(start(config), config, tmp_path)
    return tmp_path / "step-0000000.safetensors"


def test_a_mean_is_a_checkpoint_between_the_two(checkpoint: Path, config: TrainConfig, tmp_path: Path) -> None:
    mine, _, _ = read_checkpoint(checkpoint)
    plain, out = tmp_path / "plain.safetensors", tmp_path / "means" / "mean.safetensors"
    save_file({k: v.half() + 1 if v.is_floating_point() else v for k, v in mine.items()}, plain)
    assert mean_command("--checkpoint", checkpoint, "--other", plain, "--share", "0.25", "--out", out) == 0
    mean, its_config, step = read_checkpoint(out)
    assert (its_config, step) == (config, 0)
    for name, value in mine.items():
        expected = value + 0.75 if value.is_floating_point() else value
        torch.testing.assert_close(mean[name], expected, atol=2e-3, rtol=2e-3)
    assert mean_command("--checkpoint", out, "--other", checkpoint, "--share", "1", "--out", tmp_path / "same") == 0
    assert torch.equal(load_file(tmp_path / "same")["average._fc.weight"], mean["_fc.weight"])


@pytest.mark.parametrize("share", ["0", "1.5"])
def test_a_share_that_is_none_is_refused(
    checkpoint: Path, tmp_path: Path, share: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        mean_command("--checkpoint", checkpoint, "--other", checkpoint, "--share", share, "--out", tmp_path / "m") == 2
    )
    assert f"--share {share}" in capsys.readouterr().err


def test_what_is_no_weights_of_this_network_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.safetensors"
    for content, complaint in ((b"torn", "holds no weights"), (None, "not weights of the same network")):
        if content is None:
            save_file({"_fc.weight": torch.zeros(1)}, other)
        else:
            other.write_bytes(content)
        assert mean_command("--checkpoint", checkpoint, "--other", other, "--out", tmp_path / "m") == 2
        assert complaint in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
