"""Batches: pictures of one size, through an engine a batch at a time."""

from collections.abc import Sequence

import numpy as np

from pipeline.engine import Engine, Floats, Pixels


def run_in_batches(engine: Engine, pictures: Sequence[Pixels], batch: int) -> list[Floats]:
    """The engine's outputs for all pictures, each [N, ...], from full batches and at most one rest.

    `pictures`: uint8 [H, W, 3], at least one, all of one size; `batch`: how many the engine is given at once.
    """
    parts = [engine.run(np.stack(pictures[start : start + batch])) for start in range(0, len(pictures), batch)]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
