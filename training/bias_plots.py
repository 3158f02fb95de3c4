"""Pictures of `python -m training bias`: what each training draws, and what that does to each slice."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from training.plots import COLOURS

OF_LABEL = {"real": COLOURS[0], "fake": COLOURS[1]}


def counts_figure(drawn: dict[str, dict[tuple[str, str], int]]) -> Figure:
    """Crops drawn by source and label, a panel a variant: `drawn[variant][source, label]`."""
    figure, panels = plt.subplots(1, len(drawn), figsize=(7.6, 2.9), sharey=True, layout="constrained", squeeze=False)
    sources = sorted({source for counts in drawn.values() for source, _ in counts})
    for axes, (variant, counts) in zip(panels[0], drawn.items(), strict=True):
        for offset, label in ((-0.2, "real"), (0.2, "fake")):
            heights = [counts.get((source, label), 0) for source in sources]
            bars = axes.bar(np.arange(len(sources)) + offset, heights, 0.38, color=OF_LABEL[label], label=label)
            axes.bar_label(bars, fontsize=8, padding=2)
        axes.set_xticks(range(len(sources)), sources)
        axes.set_title(variant, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.12)
    panels[0, 0].set_ylabel("crops drawn")
    panels[0, -1].legend(["real", "fake (FFHQ's: self-blends)"], fontsize=8, frameon=False, loc="upper right")
    return figure


def slices_figure(variants: dict[str, dict[str, Any]]) -> Figure:
    """AUC by slice with 95 % intervals, then the two answers to "which source is it?", a colour a variant."""
    first = next(iter(variants.values()))
    names = [*first["slices"], "source told by the fake score", "source told by a linear probe"]
    figure, axes = plt.subplots(figsize=(7.6, 0.42 * len(names) + 0.9), layout="constrained")
    for number, (variant, row) in enumerate(variants.items()):
        auc = [s["auc"] for s in row["slices"].values()]
        low = [s["auc_low"] for s in row["slices"].values()]
        high = [s["auc_high"] for s in row["slices"].values()]
        for key in ("source_by_fake_score_auc", "source_by_linear_probe_auc"):
            for values in (auc, low, high):
                values.append(row[key])
        places = np.arange(len(names)) + (number - (len(variants) - 1) / 2) * 0.22
        reach = np.abs(np.array([low, high]) - auc)
        axes.errorbar(auc, places, xerr=reach, fmt="o", color=COLOURS[number], label=variant, markersize=5, capsize=2)
    axes.axvline(0.5, color="#888888", linestyle=":", linewidth=1)
    axes.axhline(len(names) - 2.5, color="#cccccc", linewidth=0.8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("AUC (0.5: cannot tell)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    figure.legend(
        *axes.get_legend_handles_labels(), fontsize=8, frameon=False, ncols=len(variants), loc="outside upper right"
    )
    return figure
