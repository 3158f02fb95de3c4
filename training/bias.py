"""The data's bias, seen and mended: `python -m training bias --out FOLDER`.

DFDC's crops are nearly balanced, so a subset with one real face to four fakes is made of them. Three small networks are
trained on the same number of crops: on the subset as it is (`before`), on it with FFHQ's real faces poured in until
both labels are equally many (`inflated`), and with balanced draws from two sources that both have real faces and fakes,
FFHQ's being self-blends (`mended`). Measured on held-out crops: AUC by slice, and whether the source became a shortcut.
Writes DOCS/bias.json and two pictures; tracked with MLRun. A network that was measured is not trained again.
"""

import argparse
import hashlib
import itertools
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from training import track
from training.bias_plots import counts_figure, slices_figure
from training.config import SourceConfig, TrainConfig
from training.data import LABELS, DataError, Example, Pictures, data_folder, open_pictures, read_manifest
from training.facecrops import write_rows
from training.metrics import auc, figures
from training.plots import DPI
from training.prepare import OUT, row_of
from training.probe import look, probe_auc
from training.train import start, steps

REAL, FAKE = 600, 2400  # the manufactured subset: one to four
IMAGES = 6000  # crops that each network sees
SIZE = 96  # pixels
SEED = 7
WIDTHS = (0, 100, 150, 220, 9999)  # pixels of the face in its frame


@dataclass(frozen=True, slots=True)
class Variant:
    """A training, and how many of its crops come from each (source, label)."""

    name: str
    config: TrainConfig
    drawn: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out crops of one source: DFDC's or FFHQ's val and test splits."""

    examples: list[Example]
    pictures: Pictures


def make_subset(out: Path, real: int, fake: int) -> None:
    """Copy the subset's crops to OUT/crops and write OUT/{dfdc,ffhq,mixed}.csv. Raises DataError."""
    rng = np.random.default_rng(SEED)
    crops = out / "crops"
    crops.mkdir(parents=True, exist_ok=True)
    swapped, portraits = (read_manifest(OUT / f"{name}.csv", "train") for name in ("dfdc", "ffhq"))
    dfdc = [example for label, count in ((0, real), (1, fake)) for example in _some(swapped, label, count, rng)]
    ffhq = _some(portraits, 0, len(portraits), rng)
    for examples, root in ((dfdc, data_folder() / "dfdc_faces_224.zip"), (ffhq, OUT / "ffhq")):
        pictures = open_pictures(root)
        for example in examples:
            (crops / example.file).write_bytes(pictures.read(example.file))
    poured = [ffhq[i % len(ffhq)] for i in range(fake - real)]
    mixed = [replace(example, source="mixed") for example in (*dfdc, *poured)]
    for name, chosen in (("dfdc", dfdc), ("ffhq", ffhq), ("mixed", mixed)):
        write_rows(out / f"{name}.csv", (row_of(example) for example in chosen))


def _some(examples: list[Example], label: int, most: int, rng: np.random.Generator) -> list[Example]:
    """At most so many examples of a label, drawn at random."""
    ours = [example for example in examples if example.label == label]
    return [ours[i] for i in sorted(rng.permutation(len(ours))[:most])]


def variants(out: Path, base: TrainConfig, real: int, fake: int) -> list[Variant]:
    """The three trainings on what `make_subset` wrote."""

    def source(name: str, **shares: float) -> SourceConfig:
        nothing = {"real": 0.0, "fake": 0.0, "blend": 0.0}
        return SourceConfig(str(out / f"{name}.csv"), str(out / "crops"), **nothing | shares)

    half, quarter = base.images // 2, base.images // 4
    own = half * real // fake  # of the inflated real faces, DFDC's own
    return [
        Variant(
            "before",
            replace(base, sources=(source("dfdc", real=real, fake=fake),)),
            {("DFDC", label): base.images * n // (real + fake) for label, n in (("real", real), ("fake", fake))},
        ),
        Variant(
            # One manifest that calls both one source, as nobody kept note of it: the check of sources cannot see it.
            "inflated",
            replace(base, sources=(source("mixed", real=1, fake=1),)),
            {("DFDC", "real"): own, ("DFDC", "fake"): half, ("FFHQ", "real"): half - own},
        ),
        Variant(
            "mended",
            replace(base, sources=(source("dfdc", real=1, fake=1), source("ffhq", real=1, blend=1))),
            {(name, label): quarter for name in ("DFDC", "FFHQ") for label in ("real", "fake")},
        ),
    ]


def trained(variant: Variant) -> nn.Module:
    """The averaged network after a training."""
    state = start(variant.config)
    for _ in steps(variant.config, state):
        pass
    return state.average


def measured(variant: Variant, out: Path, dfdc: HeldOut, ffhq: HeldOut) -> dict[str, Any]:
    """The figures of a variant, from OUT where it was measured before with these settings and these crops."""
    manifests = [Path(source.manifest).read_bytes() for source in variant.config.sources]
    key = hashlib.sha256(b"\n".join([variant.config.as_json().encode(), *manifests])).hexdigest()[:16]
    known = out / f"{variant.name}-{key}.json"
    if not known.exists():
        sys.stderr.write(f"{variant.name}: {variant.config.images} crops\n")
        found = measure(trained(variant), variant.config.input_size, dfdc, ffhq)
        partial = known.with_suffix(".partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.rename(known)
    stored: dict[str, Any] = json.loads(known.read_text(encoding="utf-8"))
    return stored


def measure(network: nn.Module, size: int, dfdc: HeldOut, ffhq: HeldOut) -> dict[str, Any]:
    """AUC by slice with intervals, honest faces above 0.5, and two answers to "which source is it?"."""
    examples = [*dfdc.examples, *ffhq.examples]
    looks = [look(network, size, held.examples, held.pictures) for held in (dfdc, ffhq)]
    features, scores = (np.concatenate(parts) for parts in zip(*looks, strict=True))
    from_dfdc = np.repeat([True, False], [len(dfdc.examples), len(ffhq.examples)])
    test = np.array([e.split == "test" for e in examples])
    labels = np.array([e.label for e in examples])
    widths = np.array([e.source_width for e in examples])
    honest = labels == 0
    slices = {"DFDC test": from_dfdc & test}
    for low, high in itertools.pairwise(WIDTHS):
        name = f"DFDC test, face {low} to {high} px" if high < WIDTHS[-1] else f"DFDC test, face from {low} px"
        slices[name] = from_dfdc & test & (widths >= low) & (widths < high)
    slices["StyleGAN against FFHQ"] = ~from_dfdc
    slices["DFDC fakes against FFHQ real"] = test & (from_dfdc != honest)
    known, asked = honest & ~test, honest & test
    return {
        "slices": {
            name: asdict(figures(labels[chosen], scores[chosen]))
            for name, chosen in slices.items()
            if len(set(labels[chosen])) == len(LABELS)
        },
        "honest_above_half": {
            name: float((scores[asked & (from_dfdc == which)] >= 0.5).mean())
            for name, which in (("DFDC", True), ("FFHQ", False))
        },
        "source_by_fake_score_auc": auc(_source(from_dfdc[asked]), scores[asked]),
        "source_by_linear_probe_auc": probe_auc(
            features[known], _source(from_dfdc[known]), features[asked], _source(from_dfdc[asked])
        ),
    }


def _source(from_dfdc: NDArray[np.bool_]) -> NDArray[np.int64]:
    return from_dfdc.astype(np.int64)


def held_out(name: str, root: Path, test_fakes_only: bool) -> HeldOut:
    """Val and test of a prepared manifest; of DFDC's fakes those of test alone, as the others are asked for nothing."""
    examples = [e for e in read_manifest(OUT / f"{name}.csv") if e.split in ("val", "test")]
    if test_fakes_only:
        examples = [e for e in examples if e.label == 0 or e.split == "test"]
    return HeldOut(examples, open_pictures(root))


def record_of(chosen: list[Variant], found: list[dict[str, Any]], real: int, fake: int) -> dict[str, Any]:
    """What docs/bias.json holds."""
    config = chosen[0].config
    return {
        "subset": {"real": real, "fake": fake},
        "crops_seen": config.images,
        "input_size": config.input_size,
        "seed": config.seed,
        "variants": {
            variant.name: {"drawn": {f"{s} {label}": n for (s, label), n in variant.drawn.items()}, **figures_}
            for variant, figures_ in zip(chosen, found, strict=True)
        },
    }


def run_all(out: Path, docs: Path, base: TrainConfig, real: int, fake: int) -> dict[str, Any]:
    """Make the subset, train and measure the variants, track and draw them; returns the record. Raises DataError."""
    make_subset(out, real, fake)
    chosen = variants(out, base, real, fake)
    dfdc = held_out("dfdc", data_folder() / "dfdc_faces_224.zip", test_fakes_only=True)
    ffhq = held_out("ffhq", OUT / "ffhq", test_fakes_only=False)
    with track.run("bias", {"real": real, "fake": fake, "images": base.images, "input_size": base.input_size}) as run:
        counts = counts_figure({variant.name: variant.drawn for variant in chosen})
        track.log_plot(run, "bias_counts", counts)
        found = [measured(variant, out, dfdc, ffhq) for variant in chosen]
        record = record_of(chosen, found, real, fake)
        slices = slices_figure(record["variants"])
        track.log_plot(run, "bias_slices", slices)
        track.log_table(run, "bias", table_of(record))
        for name, row in record["variants"].items():
            run.log_result(f"{name}_dfdc_auc", row["slices"]["DFDC test"]["auc"])
            run.log_result(f"{name}_source_by_fake_score_auc", row["source_by_fake_score_auc"])
            run.log_result(f"{name}_source_by_linear_probe_auc", row["source_by_linear_probe_auc"])
    (docs / "pictures").mkdir(parents=True, exist_ok=True)
    counts.savefig(docs / "pictures" / "bias_counts.png", dpi=DPI)
    slices.savefig(docs / "pictures" / "bias_slices.png", dpi=DPI)
    (docs / "bias.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def table_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a figure, a column a variant."""
    rows = record["variants"]
    first = next(iter(rows.values()))
    table = [
        {"figure": f"AUC, {name}", **{v: round(row["slices"][name]["auc"], 3) for v, row in rows.items()}}
        for name in first["slices"]
    ]
    table += [
        {
            "figure": f"honest {s} faces above 0.5",
            **{v: round(row["honest_above_half"][s], 3) for v, row in rows.items()},
        }
        for s in first["honest_above_half"]
    ]
    for key, name in (
        ("source_by_fake_score_auc", "AUC of the fake score at telling DFDC's honest faces from FFHQ's"),
        ("source_by_linear_probe_auc", "AUC of a linear probe at the same"),
    ):
        table.append({"figure": name, **{v: round(row[key], 3) for v, row in rows.items()}})
    return table


def markdown(table: list[dict[str, Any]]) -> str:
    """The table as it stands in docs/bias.md."""
    lines = [list(table[0]), ["---"] * len(table[0])]
    lines += [[row["figure"], *(f"{value:.3f}" for key, value in row.items() if key != "figure")] for row in table]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the subset and what was measured")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder for bias.json and pictures (docs)")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"crops that each network sees ({IMAGES})")
    parser.add_argument("--input-size", type=int, default=SIZE, help=f"pixels ({SIZE})")


def main(args: argparse.Namespace) -> int:
    """Run the command: prints the table; 2 when the data cannot be used."""
    base = TrainConfig(sources=(), images=args.images, input_size=args.input_size, seed=SEED)
    try:
        record = run_all(args.out, args.docs, base, REAL, FAKE)
    except (DataError, OSError) as error:
        sys.stderr.write(f"{error}\n`python -m training prepare` makes what lies under {OUT}.\n")
        return 2
    sys.stdout.write(markdown(table_of(record)))
    return 0
