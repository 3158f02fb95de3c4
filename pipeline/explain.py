"""Why a face scores as it does: what the classifier saw, which parts of it spoke, how the score holds when re-saved."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from pipeline.batching import run_in_batches
from pipeline.crops import Pixels, cut, resize, square_around
from pipeline.engine import Engine
from pipeline.heatmap import overlay, spread
from pipeline.results import Box, Why

CROP_QUALITY = 95
LARGEST = 1024  # pixels: what is larger is shrunk before it is re-saved, which costs seconds otherwise
LOSSY = {"jpeg_90": ("JPEG", 90), "jpeg_70": ("JPEG", 70), "jpeg_50": ("JPEG", 50), "webp_75": ("WEBP", 75)}
WAYS = (*LOSSY, "half_size")  # in which a face is saved once more, as platforms do with photos


def explain(engine: Engine, image: Pixels, boxes: Sequence[Box], width: int, batch: int) -> list[Why]:
    """One answer for each box. `batch`: crops in one forward pass.

    `image` is upright RGB, uint8 [H, W, 3]; the boxes count in pixels of the one that it is a copy of, `width` wide.
    """
    scale = image.shape[1] / width
    return [_explain(engine, image, box, scale, batch) for box in boxes]


def _explain(engine: Engine, image: Pixels, box: Box, scale: float, batch: int) -> Why:
    card = engine.card
    here = Box(*(scale * side for side in (box.left, box.top, box.width, box.height)))
    left, top, side = square_around(here, card.margin)
    face = cut(image, left, top, side)
    crops = [resize(picture, card.input_size, card.input_size) for picture in (face, *_resaved(face))]
    logits, evidence = run_in_batches(engine, crops, batch)
    score, *resaved = map(float, card.calibration.score(logits[:, 0]))
    return Why(
        left=left / scale,
        top=top / scale,
        side=side / scale,
        crop=_saved(crops[0], "JPEG", CROP_QUALITY),
        heatmap=overlay(spread(evidence[0], card.input_size)),
        score=score,
        stability=tuple(zip(WAYS, resaved, strict=True)),
    )


def _resaved(face: Pixels) -> Iterator[Pixels]:
    """A face uint8 [S, S, 3] as it comes back in each of WAYS."""
    small = resize(face, LARGEST, LARGEST) if len(face) > LARGEST else face
    for format_, quality in LOSSY.values():
        with Image.open(io.BytesIO(_saved(small, format_, quality)), formats=[format_]) as saved:
            yield np.asarray(saved.convert("RGB"), np.uint8)
    half = max(1, len(small) // 2)
    yield resize(small, half, half)


def _saved(picture: Pixels, format_: str, quality: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format_, quality=quality)
    return content.getvalue()
