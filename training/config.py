"""The settings of a training: what a checkpoint carries, and what makes a run repeatable."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from training.data import data_folder


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source of crops, and the shares that its kinds have of a batch.

    Fakes are also made from its real crops: `blend` is a face blended with itself, `cross` with another one.
    In the two paths {data} stands for the data folder (SHIELD_DATA).
    """

    manifest: str
    root: str
    real: float
    fake: float
    blend: float
    cross: float = 0.0

    @property
    def manifest_path(self) -> Path:
        """Where the manifest lies."""
        return Path(self.manifest.format(data=data_folder()))

    @property
    def root_path(self) -> Path:
        """The folder or zip that holds the crops."""
        return Path(self.root.format(data=data_folder()))


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A training, whole. The learning rate warms up, stays at its peak, then decays (a WSD schedule)."""

    sources: tuple[SourceConfig, ...]
    start: str = ""  # a checkpoint whose average to start from, or shipped weights; empty: the ImageNet weights
    images: int = 100_000  # crops seen in all
    batch: int = 32
    views: int = 1  # how often a drawn crop stands in its batch, each time augmented anew
    consistency: float = 0.0  # weight of the squared difference between the logits of a crop's views
    pairs: bool = False  # a blend brings its plain face along, both augmented alike: they differ in the seam alone
    input_size: int = 160
    peak_rate: float = 8e-4
    weight_decay: float = 0.02
    warmup: float = 0.04  # fraction of the steps
    decay: float = 0.4  # fraction of the steps
    dropout: float = 0.2
    label_smoothing: float = 0.04
    ema: float = 0.998  # per step; what is evaluated and exported is the average
    seed: int = 7
    checkpoint_every: int = 200  # steps
    validate_every: int = 400  # steps
    validate_crops: int = 800
    loaders: int = 1  # processes that make batches ahead; 0: the training makes its own
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raises ValueError for a batch that its views do not divide."""
        if self.views < 1 or self.batch % self.views:
            raise ValueError(f"a batch of {self.batch} does not hold {self.views} views of each crop")

    @property
    def steps(self) -> int:
        """How many batches the training takes."""
        return max(1, self.images // self.batch)

    def as_json(self) -> str:
        """One line of JSON, as it stands in checkpoints and cards."""
        return json.dumps(dataclasses.asdict(self))


def load_config(path: Path) -> TrainConfig:
    """Read a training's settings from JSON. Raises TypeError for an unknown key."""
    return parse_config(path.read_text(encoding="utf-8"))


def parse_config(text: str) -> TrainConfig:
    """The settings that `TrainConfig.as_json` wrote."""
    fields = json.loads(text)
    return TrainConfig(**{**fields, "sources": tuple(SourceConfig(**source) for source in fields["sources"])})
