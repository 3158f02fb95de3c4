"""Weights cards: the identity of a model file, and what one must know to run it.

A card is a JSON file beside the weights it describes. It carries everything that belongs to the numbers (input size,
mean, margin, calibration, thresholds, source, licence) and the sha256 of every file, so that weights can never be run
with another model's settings. Loading verifies the hash and refuses a mismatch.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODELS = Path(__file__).parent / "models"


class WeightsError(Exception):
    """A weights card or a file it names is missing, malformed, or not the file that the card describes."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling of a logit: score = sigmoid(logit / temperature + bias) (Platt 1999; Guo et al. 2017)."""

    temperature: float = 1.0
    bias: float = 0.0

    def score(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated P(fake) in [0, 1] of raw logits of any shape."""
        scaled = np.asarray(logits, np.float64) / self.temperature + self.bias
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scaled, -60.0, 60.0))), np.float64)


@dataclass(frozen=True, slots=True)
class WeightsCard:
    """What a weights file is and how it wants its input.

    `mean` and `std` apply to RGB pixels of 0..255; `margin` is the fraction of a box's longer side that a crop adds on
    each side; `thresholds` are calibrated scores in [0, 1] by name; `figures` are measured, with their data named.
    """

    name: str
    version: str
    files: dict[str, dict[str, str]]
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    source: str
    margin: float = 0.0
    calibration: Calibration = Calibration()
    thresholds: dict[str, float] = field(default_factory=dict)
    trained_on: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    folder: Path = MODELS

    def file(self, kind: str) -> Path:
        """The path of the file of this kind ("onnx", "safetensors"), its sha256 verified.

        Raises WeightsError when the card names no such file, or it is missing, or its hash differs.
        """
        if kind not in self.files:
            raise WeightsError(f"{self.name} has no {kind} file: its card names {', '.join(sorted(self.files))}")
        path = self.folder / self.files[kind]["file"]
        if not path.is_file():
            raise WeightsError(f"{path} is missing: export it again, or restore it from the repository")
        if sha256_of(path) != self.files[kind]["sha256"]:
            raise WeightsError(
                f"{path} is not the file its card describes: restore it, or export file and card together"
            )
        return path

    @property
    def weights_sha256(self) -> str:
        """The sha256 of the weights themselves: what identifies a model in every result."""
        return self.files["safetensors"]["sha256"]


def load_card(path: Path) -> WeightsCard:
    """Read a card; the files it names are looked for beside it. Raises WeightsError when it is missing or malformed."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        return WeightsCard(
            **{
                **card,
                "mean": tuple(card["mean"]),
                "std": tuple(card["std"]),
                "calibration": Calibration(**card.get("calibration", {})),
                "folder": path.parent,
            }
        )
    except FileNotFoundError as error:
        raise WeightsError(f"no weights card at {path}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} is not a weights card: {error}") from error


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
