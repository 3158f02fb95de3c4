"""Moderators' decisions as training data: `python -m training import-decisions FILE`.

FILE has one JSON object a line: `file` (a face crop under the root), `decision` (upheld: it is a fake; overturned: it
is real), and where known `case`, `custom_id`, `decided_at`. Good lines go into a manifest with the split `train`; a bad
line is reported by its number and left out. A picture that nearly equals one that is held out (any split but `train`)
is refused: training on it would make the figures measured there worthless.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.hashes import distance, perceptual_hash
from training.data import DataError, Example, Pictures, data_folder, open_pictures, read_manifest, read_rgb, read_row
from training.duplicates import NEAR, hashes_of
from training.facecrops import write_rows
from training.prepare import OUT, row_of

LABEL_OF = {"upheld": "fake", "overturned": "real"}


@dataclass(frozen=True, slots=True)
class Decision:
    """One decided picture, with the hash of its bytes and of its looks."""

    example: Example
    exact: str
    looks: int


def read_decision(export: Path, number: int, line: str, pictures: Pictures) -> Decision:
    """One line of an export. Raises DataError with the line's number and what is wrong with it."""
    where = f"{export}:{number}"
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("file"), str):
        raise DataError(f"{where}: no file named; needed are file and decision")
    if fields.get("decision") not in list(LABEL_OF):
        raise DataError(f"{where}: decision {fields.get('decision')!r} is neither upheld nor overturned")
    group = str(fields.get("custom_id") or fields.get("case") or fields["file"])
    row = {"file": fields["file"], "label": LABEL_OF[fields["decision"]], "group": group, "split": "train"}
    example = read_row(export, number, row, source="decisions")
    looks = perceptual_hash(read_rgb(example, pictures))
    return Decision(example, hashlib.sha256(pictures.read(example.file)).hexdigest(), looks)


def usable(
    export: Path, lines: list[str], pictures: Pictures, held_out: NDArray[np.uint64], refused: list[str]
) -> Iterator[Example]:
    """The decisions that may be trained on; why a line may not goes to `refused`.

    Refused are bad lines, near-duplicates of held-out pictures (perceptual hashes uint64 [N]), a picture that was
    decided both ways (all of its lines), and repetitions.
    """
    read: list[Decision] = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                read.append(read_decision(export, number, line, pictures))
        except DataError as error:
            refused.append(str(error))
    labels: dict[str, set[int]] = defaultdict(set)
    for decision in read:
        labels[decision.exact].add(decision.example.label)
    seen: set[str] = set()
    for decision in read:
        reason = ""
        if any(distance(decision.looks, int(other)) <= NEAR for other in held_out):
            reason = "nearly equals a held-out picture: it would leak"
        elif len(labels[decision.exact]) > 1:
            reason = "was decided both ways: settle it first"
        elif decision.exact in seen:
            reason = "stands in the export already"
        if reason:
            refused.append(f"{decision.example.where}: {decision.example.file} {reason}")
        else:
            seen.add(decision.exact)
            yield decision.example


def held_out_hashes(pairs: list[list[Path]]) -> NDArray[np.uint64]:
    """The perceptual hashes uint64 [N] of what is held out in pairs of manifest and root. Raises DataError."""
    hashes = []
    for manifest, root in pairs:
        held = [example for example in read_manifest(manifest) if example.split != "train"]
        if not held:
            raise DataError(f"{manifest} holds nothing out: it has rows of split train only")
        hashes.append(hashes_of(held, open_pictures(root))[0])
    return np.unique(np.concatenate(hashes))


def prepared() -> list[list[Path]]:
    """Manifest and root of every source that `prepare` writes with held-out pictures."""
    return [
        [OUT / "dfdc.csv", data_folder() / "dfdc_faces_224.zip"],
        [OUT / "ffhq.csv", OUT / "ffhq"],
        [OUT / "street.csv", OUT / "street"],
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("file", type=Path, help="the export: one JSON object a line")
    parser.add_argument("--root", type=Path, help="folder or zip of the face crops (default: the export's folder)")
    parser.add_argument("--out", type=Path, help="the manifest to write (default: NAME-manifest.csv beside the export)")
    parser.add_argument(
        "--held-out",
        type=Path,
        nargs=2,
        action="append",
        metavar=("MANIFEST", "ROOT"),
        help="what must not leak in; more than one may be named (default: what `prepare` wrote)",
    )


def main(args: argparse.Namespace) -> int:
    """Run the command: 0 all lines taken, 1 some refused (the others are written), 2 nothing could be used."""
    refused: list[str] = []
    out = args.out or args.file.with_name(f"{args.file.stem}-manifest.csv")
    try:
        lines = args.file.read_text(encoding="utf-8").split("\n")
        held_out = held_out_hashes(args.held_out or prepared())
        pictures = open_pictures(args.root or args.file.parent)
        taken = list(usable(args.file, lines, pictures, held_out, refused))
        for reason in refused:
            sys.stderr.write(f"{reason}\n")
        if not taken:
            raise DataError("no line can be used; nothing was written")
        write_rows(out, (row_of(example) for example in taken))
    except (DataError, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{args.file}: {error}\n")
        return 2
    fakes = sum(example.label for example in taken)
    sys.stdout.write(f"{len(taken) - fakes} real, {fakes} fake in {out}; {len(refused)} lines refused\n")
    return 1 if refused else 0
