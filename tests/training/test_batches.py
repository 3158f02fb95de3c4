"""What a training draws from: pools that are there, and errors that say which one is not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.batches import batches, open_pools
from training.config import SourceConfig, TrainConfig
from training.data import DataError


def test_a_pool_for_each_share(config: TrainConfig) -> None:
    pools = open_pools(config, "train")
    assert [(pool.kind, pool.share, len(pool.examples)) for pool in pools] == [
        ("real", 2, 8),
        ("fake", 2, 8),
        ("blend", 1, 8),
    ]
    assert {example.label for example in pools[2].examples} == {0}


def test_blends_alone_are_fakes_enough(config: TrainConfig, manifest: Path) -> None:
    rows = [line for line in manifest.read_text().splitlines() if ",fake," not in line]
    manifest.write_text("\n".join(rows) + "\n")
    source = replace(config.sources[0], fake=0)
    assert [pool.kind for pool in open_pools(replace(config, sources=(source,)), "val")] == ["real", "blend"]


def with_shares(config: TrainConfig, **shares: float) -> TrainConfig:
    nothing = {"real": 0.0, "fake": 0.0, "blend": 0.0, "cross": 0.0}
    source = config.sources[0]
    return replace(config, sources=(SourceConfig(source.manifest, source.root, **nothing | shares),))


@pytest.mark.parametrize(("shares", "only"), [({"real": 1.0}, "real"), ({"fake": 1.0, "blend": 1.0}, "fake")])
def test_a_source_drawn_under_one_label_is_refused(config: TrainConfig, shares: dict[str, float], only: str) -> None:
    with pytest.raises(DataError, match=rf"crops\.csv: drawn as {only} only"):
        open_pools(with_shares(config, **shares), "train")


@pytest.mark.parametrize(("gone", "kind"), [("fake", "fake"), ("real", "real"), ("real", "blend"), ("real", "cross")])
def test_an_empty_class_is_named(config: TrainConfig, manifest: Path, gone: str, kind: str) -> None:
    rows = [line for line in manifest.read_text().splitlines() if not (f",{gone}," in line and line.endswith("val"))]
    manifest.write_text("\n".join(rows) + "\n")
    shares = {"real": 1.0, "fake": 1.0} if kind == gone else {"real": 1e-9, "fake": 1.0}
    asked = with_shares(config, **shares | {kind: 1.0})
    assert open_pools(asked, "train")
    with pytest.raises(DataError, match=rf"crops\.csv: no {gone} rows of split val for its share of"):
        open_pools(asked, "val")


def test_an_empty_split_is_named(config: TrainConfig) -> None:
    with pytest.raises(DataError, match=r"crops\.csv has no rows of split test"):
        open_pools(config, "test")


def test_an_unreadable_picture_is_named_with_its_row(config: TrainConfig, manifest: Path) -> None:
    for path in manifest.with_suffix("").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"crops\.csv:\d+: \d+\.png is not a picture"):
        next(batches(config, open_pools(config, "train"), 0))


def test_a_batch_depends_on_its_number_alone(config: TrainConfig) -> None:
    pools = open_pools(config, "train")
    whole = list(batches(config, pools, 0))
    resumed = list(batches(config, pools, 2))
    assert len(whole) == config.steps
    for (pixels, labels), (again, same) in zip(whole[2:], resumed, strict=True):
        assert pixels.equal(again)
        assert labels.equal(same)
    assert not whole[0][0].equal(whole[1][0])


def test_the_views_of_a_crop_stand_side_by_side_and_differ(config: TrainConfig) -> None:
    pixels, labels = next(batches(replace(config, views=2), open_pools(config, "train"), 0))
    red, _, blue = pixels.float().mean(dim=(2, 3)).T  # a crop leans red or blue, unless it has become grey
    lean = torch.sign((red - blue).round())
    assert lean.abs().sum() > 0
    for first in range(0, config.batch, 2):
        assert labels[first] == labels[first + 1]
        assert not pixels[first].equal(pixels[first + 1])
        assert lean[first] * lean[first + 1] >= 0


def test_a_blend_of_a_pair_stands_beside_its_plain_face(config: TrainConfig) -> None:
    paired = replace(with_shares(config, real=1e-9, blend=1.0), pairs=True)
    pixels, labels = next(batches(paired, open_pools(paired, "train"), 0))
    assert labels.tolist() == [0.0, 1.0] * (config.batch // 2)
    apart = (pixels[0::2].float() - pixels[1::2].float()).abs().mean(dim=(1, 2, 3))
    strangers = (pixels[0::2].float() - pixels[1::2].roll(1, 0).float()).abs().mean(dim=(1, 2, 3))
    assert apart.mean() < 0.7 * strangers.mean()
    assert (apart > 0).all()


def test_views_that_do_not_divide_the_batch_are_refused(config: TrainConfig) -> None:
    with pytest.raises(ValueError, match="a batch of 8 does not hold 3 views"):
        replace(config, views=3)


def test_a_source_needs_its_manifest(config: TrainConfig, tmp_path: Path) -> None:
    source = SourceConfig(str(tmp_path / "absent.csv"), str(tmp_path), real=1, fake=1, blend=0)
    with pytest.raises(DataError, match=r"absent\.csv cannot be read"):
        open_pools(replace(config, sources=(source,)), "train")
