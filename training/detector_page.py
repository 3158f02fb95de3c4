"""What a fine-tuning of the detector brought, for the eye: lines on the screen, and docs/detector.md."""

import json
from typing import Any

PAGE = """# Fine-tuning the face detector

Made by `python -m training detector --out FOLDER --docs docs`; the figures are in [detector.json](detector.json).

BlazeFace `back` was fine-tuned on photos with annotated boxes: {steps} steps of {batch} crops of {size} px a fold,
{folds} folds by photo, a scene in one fold alone. Every photo is measured by weights that have not seen it, through the
whole detector as it ships: `back` proposes, `short` looks again. What it would not keep is reported too, so that
the precision-recall curve is whole down to the proposals. The same people recur in several photos, so the figures after
fine-tuning are on the kind side.

Figures are those of the weights that ship -> the fine-tuned ones. AP is interpolated at all points; boxes of another
row are ignored there, and what matches no box is a false positive in every row. The interval is the bootstrap's 95 % of
the gain at IoU 0.5, over photos. Recall is at IoU 0.3 and the shipped threshold. Size is the square root of the box's
area, in pixels of the photo.

| faces | how many | AP at IoU 0.5 | gain | AP at IoU 0.3 | recall |
| --- | ---: | --- | --- | --- | --- |
{table}

- False positives a photo at the shipped threshold: {false}.
- Recall at the threshold that lets the shipped weights' number of false positives through: {recall}.
- {portraits} portraits that nobody trained on: a face is found in {found_before} before, in {found_least} (worst fold)
  to {found_mean:.1f} (mean) after. Its box overlaps the one before by {overlap:.3f} (median IoU), its landmarks move by
  {moved:.3f} of its width (median): no loss holds them, as nobody annotated any.

Annotators frame faces otherwise than BlazeFace does. Its side is {wide:.2f} of their width and {high:.2f} of their
height; its centre lies {right:+.3f} to the right and {down:+.3f} down, of the square root of the box's area (means over
folds, each fitted on the fold's training photos). For training, boxes are turned into BlazeFace's by this map, because
the classifier's crops rely on that framing; for measuring they stay as they are.

**Decision**: {decision}
"""


def lines(report: dict[str, Any]) -> list[str]:
    """A report for the eye: a row a slice, portraits, the verdict, and the aims: no worse than what ships."""
    shown = [
        f"{row['slice']:16} {row['faces']:5} faces  AP@0.5 {row['ap50_before']:.3f} -> {row['ap50_after']:.3f}"
        f" ({row['gain50_low']:+.3f} to {row['gain50_high']:+.3f})  AP@0.3 {row['ap30_before']:.3f} ->"
        f" {row['ap30_after']:.3f}  recall {row['recall_before']:.3f} -> {row['recall_after']:.3f}"
        for row in report["rows"]
    ]
    shown += [
        f"{name}: {json.dumps(report[name])}" for name in ("false_per_photo", "recall_at_same_false", "portraits")
    ]
    worse = report["worse_in"]
    shown.append("better everywhere: " + (f"no, worse in {', '.join(worse)}" if worse else "yes"))
    for name, value in report["aims"].items():
        reached = value["after"] <= value["before"] if value["at_most"] else value["after"] >= value["before"]
        shown.append(f"aim {name} {value['after']:.4f} {value['before']:.4f} {'reached' if reached else 'short'}")
    return shown


def page(report: dict[str, Any]) -> str:
    """A report as Markdown."""
    settings, portraits, framings = report["settings"], report["portraits"], report["framings"]
    config = settings["config"]
    return PAGE.format(
        steps=config["images"] // config["batch"],
        batch=config["batch"],
        size=config["input_size"],
        folds=settings["folds"],
        table="\n".join(_table_row(row) for row in report["rows"]),
        false=_change(report["false_per_photo"]),
        recall=_change(report["recall_at_same_false"]),
        portraits=portraits["photos"],
        found_before=portraits["found_before"],
        found_least=portraits["found_after_least"],
        found_mean=portraits["found_after_mean"],
        overlap=portraits["box_overlap_median"],
        moved=portraits["landmarks_moved_median"],
        **{name: sum(framing[name] for framing in framings) / len(framings) for name in framings[0]},
        decision=_decision(report["worse_in"]),
    )


def _table_row(row: dict[str, Any]) -> str:
    pairs = (f"{row[f'{figure}_before']:.3f} -> {row[f'{figure}_after']:.3f}" for figure in ("ap50", "ap30", "recall"))
    at_half, at_third, recall = pairs
    gain = f"{row['gain50_low']:+.3f} to {row['gain50_high']:+.3f}"
    return f"| {row['slice']} | {row['faces']} | {at_half} | {gain} | {at_third} | {recall} |"


def _change(pair: dict[str, float]) -> str:
    return f"{pair['before']:.3f} -> {pair['after']:.3f}"


def _decision(worse: list[str]) -> str:
    if worse:
        return f"the weights that ship stay, because fine-tuned ones are worse in {', '.join(worse)}."
    return "fine-tuned weights are better everywhere that was measured; `--weights` makes them from all photos."
