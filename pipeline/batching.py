"""Batches: pictures of one size, normalised as their network's card says, through an engine a batch at a time."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.engine import Engine, Floats

Pixels = npt.NDArray[np.uint8]


def normalise(pictures: Sequence[Pixels], mean: tuple[float, ...], std: tuple[float, ...]) -> Floats:
    """RGB pictures uint8 [H, W, 3] of one size -> float32 [N, 3, H, W]; `mean` and `std` count in 0 to 255."""
    stacked = np.stack(pictures).astype(np.float32)
    stacked -= np.asarray(mean, np.float32)
    stacked /= np.asarray(std, np.float32)
    return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def run_in_batches(engine: Engine, pictures: Sequence[Pixels], batch: int) -> list[Floats]:
    """The engine's outputs for all pictures, each [N, ...], from full batches and at most one rest.

    `pictures`: uint8 [H, W, 3], at least one, all of one size; `batch`: how many in one forward pass.
    """
    card = engine.card
    parts = [
        engine.run(normalise(pictures[start : start + batch], card.mean, card.std))
        for start in range(0, len(pictures), batch)
    ]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
