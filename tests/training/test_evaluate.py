import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from training.evaluate import HONEST_LIMIT, TARGET_AUC, add_arguments, main


def arguments(*words: str | Path) -> Namespace:
    parser = ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_the_shipped_weights_hold_their_bar_on_faces_never_trained_on(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = data_folder / "dfdc_faces_224.csv", tmp_path / "figures.json"
    args = arguments("--manifest", data, "--root", data.with_suffix(".zip"), "--split", "test", "--json", out)
    assert main(args) == 0
    figures = json.loads(out.read_text())
    assert figures["auc"] >= TARGET_AUC
    assert figures["auc_low"] < figures["auc"] < figures["auc_high"]
    assert (figures["real"], figures["fake"]) == (842, 873)
    assert capsys.readouterr().out.endswith(f"bar frame_auc {figures['auc']:.4f} {TARGET_AUC} holds\n")


def test_a_bar_that_is_not_held_fails(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments("--manifest", manifest, "--root", manifest.with_suffix(""), "--target", "1.01")) == 1
    assert capsys.readouterr().out.endswith("1.01 falls short\n")


def test_honest_faces_alone_are_counted_by_the_shipped_threshold(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for row in manifest.read_text().splitlines() if ",fake," not in row]
    manifest.write_text("\n".join(rows))
    assert main(arguments("--manifest", manifest, "--root", manifest.with_suffix(""))) == 0
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last[:2] == ["aim", "real_flagged_fake"]
    assert (float(last[2]) <= HONEST_LIMIT) == (last[-1] == "reached")


def test_data_that_cannot_be_used_is_named(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.write_text("file,label\nx.png,fake\n")
    assert main(arguments("--manifest", manifest, "--root", manifest.with_suffix(""))) == 2
    assert "x.png cannot be read" in capsys.readouterr().err
