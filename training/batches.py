"""Training batches: crops drawn by source and kind, blended, augmented, decoded ahead in a second process.

The draw of batch k depends on the seed and k alone, so a resumed training sees what an unbroken one would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.augment import training_transform
from training.blends import cross_blend, self_blend
from training.config import TrainConfig
from training.data import DataError, Example, Pictures, Pixels, open_pictures, read_manifest, read_rgb


@dataclass(frozen=True, slots=True)
class Pool:
    """Examples of one source and one kind, and their share of a batch."""

    examples: list[Example]
    pictures: Pictures
    kind: str  # real | fake | blend | cross
    share: float


def open_pools(config: TrainConfig, split: str) -> list[Pool]:
    """The pools that a training draws from.

    Raises DataError for unusable data, for a share of a kind that the split does not hold, and for a source that is
    drawn under one label only: a network would learn the source, not the forgery.
    """
    pools = []
    for source in config.sources:
        if bool(source.real) != bool(source.fake + source.blend + source.cross):
            only = "real" if source.real else "fake"
            raise DataError(f"{source.manifest}: drawn as {only} only: give the other label, or blends, a share")
        examples = read_manifest(source.manifest_path, split)
        pictures = open_pictures(source.root_path)
        for kind in ("real", "fake", "blend", "cross"):
            share = getattr(source, kind)
            drawn = [e for e in examples if e.label == (kind == "fake")]  # blends are made of real faces
            if share and not drawn:
                label = "fake" if kind == "fake" else "real"
                raise DataError(
                    f"{source.manifest}: no {label} rows of split {split} for its share of {kind} ({share})"
                )
            if share:
                pools.append(Pool(drawn, pictures, kind, share))
    return pools


class Batches(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Batch `step` of a training, whole: uint8 RGB [B, 3, S, S] and float labels [B]."""

    def __init__(self, config: TrainConfig, pools: list[Pool]) -> None:
        self.config = config
        self.pools = pools
        self.shares = np.array([pool.share for pool in pools])
        self.transform = training_transform(config.input_size)

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.config.seed, step))
        views, size = self.config.views, self.config.batch
        crops: list[torch.Tensor] = []  # the views of a crop stand side by side
        labels: list[float] = []
        while len(crops) < size:
            pool = self.pools[rng.choice(len(self.pools), p=self.shares / self.shares.sum())]
            drawn = _draw(pool, rng, self.config.pairs)
            seeds = rng.integers(2**31, size=views)
            for crop, label in drawn:
                crops += [self._augment(crop, int(seed)) for seed in seeds]
                labels += [label] * views
        return torch.stack(crops[:size]), torch.tensor(labels[:size])

    def _augment(self, crop: Pixels, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)  # the transforms draw from torch's generator, the loader process's own
        return self.transform(torch.from_numpy(crop).permute(2, 0, 1))


def batches(config: TrainConfig, pools: list[Pool], start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches `start`.. to the last, made ahead in processes of their own.

    They are spawned, not forked: a fork of a process whose threads have run may hang in OpenCV or OpenMP.
    """
    return iter(
        DataLoader(
            Batches(config, pools),
            batch_size=None,
            sampler=range(start, config.steps),
            num_workers=config.loaders,
            worker_init_fn=_one_thread,
            multiprocessing_context="spawn" if config.loaders else None,
        )
    )


def _one_thread(worker: int) -> None:
    del worker
    cv2.setNumThreads(1)  # the cores belong to the training process


def _draw(pool: Pool, rng: np.random.Generator, pairs: bool) -> list[tuple[Pixels, float]]:
    """A crop of the pool with its label, after its plain face (label 0) where blends come in pairs."""
    example, plain = _any(pool, rng)
    if pool.kind == "real":
        return [(plain, 0.0)]
    if pool.kind == "fake":
        return [(plain, 1.0)]
    if pool.kind == "blend":
        blend = self_blend(plain, example.landmarks, rng)
    else:
        other, donor = _any(pool, rng)
        blend = cross_blend(plain, example.landmarks, donor, other.landmarks, rng)
    return [(plain, 0.0), (blend, 1.0)] if pairs else [(blend, 1.0)]


def _any(pool: Pool, rng: np.random.Generator) -> tuple[Example, Pixels]:
    example = pool.examples[rng.integers(len(pool.examples))]
    return example, read_rgb(example, pool.pictures)
