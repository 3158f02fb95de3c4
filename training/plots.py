"""Pictures of an evaluation: ROC curves, calibration, score histograms, robustness."""

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.metrics import Labels, Scores, roc

# Okabe and Ito's palette: told apart by colour-blind readers too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DPI = 110
PICTURES = ("roc", "calibration", "scores", "robustness")


def draw(scores: dict[str, tuple[Labels, Scores]], harmed: dict[str, float], auc: float, folder: Path) -> None:
    """Write PICTURES as PNG into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = (
        roc_figure(scores),
        calibration_figure(scores),
        histogram_figure(scores),
        robustness_figure(harmed, auc),
    )
    for name, figure in zip(PICTURES, drawn, strict=True):
        figure.savefig(folder / f"{name}.png", dpi=DPI)
        plt.close(figure)


def _axes(width: float, height: float, title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def roc_figure(scores: dict[str, tuple[Labels, Scores]]) -> Figure:
    """ROC curves of all kinds with both labels; the false positive axis is logarithmic, where operators work."""
    figure, axes = _axes(6.4, 4.6, "ROC", "honest faces flagged", "fakes found")
    curves = [(kind, both) for kind, both in scores.items() if len(set(both[0])) == 2]
    for (kind, (labels, values)), colour in zip(curves, COLOURS, strict=False):
        false, true = roc(labels, values)
        axes.plot(np.maximum(false, 1e-3), true, label=kind, color=colour, linewidth=1.8)
    axes.set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1.01))
    axes.legend(fontsize=8, frameon=False)
    return figure


def calibration_figure(scores: dict[str, tuple[Labels, Scores]], bins: int = 10) -> Figure:
    """How often a face with such a score is a fake, in bins of at least 20 faces."""
    figure, axes = _axes(5.2, 4.6, "Calibration", "score", "share of fakes")
    axes.plot([0, 1], [0, 1], color="#888888", linestyle=":", linewidth=1)
    curves = [(kind, both) for kind, both in scores.items() if len(set(both[0])) == 2][:2]
    for (kind, (labels, values)), colour in zip(curves, COLOURS, strict=False):
        place = np.minimum((values * bins).astype(int), bins - 1)
        full = [b for b in range(bins) if (place == b).sum() >= 20]
        said = [values[place == b].mean() for b in full]
        true = [labels[place == b].mean() for b in full]
        axes.plot(said, true, marker="o", label=kind, color=colour)
    axes.legend(fontsize=8, frameon=False)
    return figure


def histogram_figure(scores: dict[str, tuple[Labels, Scores]]) -> Figure:
    """Scores of real and fake faces, one panel a kind."""
    figure, panels = plt.subplots(len(scores), 1, figsize=(6.4, 1.35 * len(scores) + 0.6), sharex=True, squeeze=False)
    figure.set_layout_engine("constrained")
    edges = np.linspace(0, 1, 41)
    for axes, (kind, (labels, values)) in zip(panels[:, 0], scores.items(), strict=True):
        for label, name, colour in ((0, "real", COLOURS[0]), (1, "fake", COLOURS[1])):
            if (labels == label).any():
                axes.hist(values[labels == label], edges, label=name, color=colour, alpha=0.6)
        axes.set_title(kind, fontsize=9, loc="left")
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    panels[0, 0].legend(fontsize=8, frameon=False)
    panels[-1, 0].set_xlabel("score")
    return figure


def robustness_figure(harmed: dict[str, float], auc: float) -> Figure:
    """AUC on DFDC test as it is and after each harm."""
    figure, axes = _axes(6.4, 2.8, "DFDC test after what uploads suffer", "AUC", "")
    names = ["as it is", *harmed]
    values = [auc, *harmed.values()]
    bars = axes.barh(names[::-1], values[::-1], color=[COLOURS[4]] * len(harmed) + [COLOURS[0]])
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.set_xlim(0.5, 1.0)
    return figure
