"""The GPU's benchmark: its tables, made on whatever device there is; without CUDA it says so."""

import subprocess
import sys

import torch


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_tables_are_those_of_the_other_benchmark() -> None:
    done = run("--device", "cuda" if torch.cuda.is_available() else "cpu", "--dtypes", "float32", "bfloat16")
    assert done.returncode == 0, done.stderr
    for words in ("Networks alone", "shield-lite0, 1", "torch, bfloat16", "The pipeline", "1080p, 1 face, float32"):
        assert words in done.stdout


if not torch.cuda.is_available():

    def test_without_a_device_nothing_is_claimed() -> None:
        done = run()
        assert done.returncode == 2
        assert "no CUDA device" in done.stderr
        assert done.stdout == ""
