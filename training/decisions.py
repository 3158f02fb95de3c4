"""Moderators' decisions as training data: `python -m training import-decisions FILE --root DIR --out MANIFEST`.

FILE has one JSON object a line: `file` (a face crop under the root), `decision` (upheld: it is a fake; overturned: it
is real), and where known `case`, `custom_id`, `decided_at`. Good lines go into the manifest with the split `train`; a
bad line is reported by its number and left out. A picture that nearly equals one of a held-out test manifest is refused:
training on it would make that test's figures worthless.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.hashes import distance, perceptual_hash
from training.data import DataError, Pictures, decode_rgb, open_pictures, read_manifest
from training.duplicates import NEAR, hashes_of
from training.facecrops import write_rows

LABEL_OF = {"upheld": "fake", "overturned": "real"}


@dataclass(frozen=True, slots=True)
class Decision:
    """One decided picture: line number, file, label, hash of its bytes and of its looks."""

    line: int
    file: str
    label: str
    group: str
    exact: str
    looks: int


class BadLineError(Exception):
    """A line cannot be used; the message says why."""


def read_line(number: int, text: str, pictures: Pictures) -> Decision:
    """One line of an export. Raises BadLineError with what is wrong and what to do."""
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise BadLineError(f"not JSON ({error})") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("file"), str):
        raise BadLineError("no file named; needed are file and decision")
    if fields.get("decision") not in LABEL_OF:
        raise BadLineError(f"decision {fields.get('decision')!r} is neither upheld nor overturned")
    try:
        encoded = pictures.read(fields["file"])
        looks = perceptual_hash(decode_rgb(encoded, fields["file"]))
    except DataError as error:
        raise BadLineError(str(error)) from error
    group = str(fields.get("custom_id") or fields.get("case") or fields["file"])
    exact = hashlib.sha256(encoded).hexdigest()
    return Decision(number, fields["file"], LABEL_OF[fields["decision"]], group, exact, looks)


def usable(
    lines: list[str], pictures: Pictures, held_out: list[int], refused: list[tuple[int, str]]
) -> Iterator[Decision]:
    """The decisions that may be trained on; the others go to `refused` as (line, reason).

    Refused are bad lines, near-duplicates of held-out pictures, a picture that was decided both ways (all of its
    lines), and repetitions.
    """
    read = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            read.append(read_line(number, text, pictures))
        except BadLineError as error:
            refused.append((number, str(error)))
    labels: dict[str, set[str]] = {}
    for decision in read:
        labels.setdefault(decision.exact, set()).add(decision.label)
    seen: set[str] = set()
    for decision in read:
        if any(distance(decision.looks, other) <= NEAR for other in held_out):
            refused.append((decision.line, f"{decision.file} nearly equals a held-out test picture: it would leak"))
        elif len(labels[decision.exact]) > 1:
            refused.append((decision.line, f"{decision.file} was decided both ways: settle it first"))
        elif decision.exact in seen:
            refused.append((decision.line, f"{decision.file} stands in the export already"))
        else:
            seen.add(decision.exact)
            yield decision


def held_out_hashes(manifest: Path, root: Path) -> list[int]:
    """The perceptual hashes of a manifest's test split. Raises DataError."""
    hashes, _ = hashes_of(read_manifest(manifest, "test"), open_pictures(root))
    return [int(value) for value in np.unique(hashes)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("file", type=Path, help="the export: one JSON object a line")
    parser.add_argument("--root", type=Path, required=True, help="folder or zip that holds the face crops")
    parser.add_argument("--out", type=Path, required=True, help="the manifest to write")
    parser.add_argument("--test-manifest", type=Path, required=True, help="whose test split must not leak")
    parser.add_argument("--test-root", type=Path, required=True, help="folder or zip of that manifest's pictures")


def main(args: argparse.Namespace) -> int:
    """Run the command: 0 all lines taken, 1 some refused (the others are written), 2 nothing could be used."""
    refused: list[tuple[int, str]] = []
    try:
        lines = args.file.read_text(encoding="utf-8").splitlines()
        held_out = held_out_hashes(args.test_manifest, args.test_root)
        taken = list(usable(lines, open_pictures(args.root), held_out, refused))
    except (DataError, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for line, reason in sorted(refused):
        sys.stderr.write(f"{args.file}:{line}: {reason}\n")
    if not taken:
        sys.stderr.write(f"{args.file}: no line can be used; nothing was written\n")
        return 2
    write_rows(args.out, ([d.file, d.label, d.group, "train", "decisions", "", ""] for d in taken))
    counts = {label: sum(d.label == label for d in taken) for label in ("real", "fake")}
    sys.stdout.write(f"{counts['real']} real, {counts['fake']} fake in {args.out}; {len(refused)} lines refused\n")
    for label, count in counts.items():
        if not count:
            sys.stdout.write(f"no {label} ones: mix with another source, or give this one a share of blends\n")
    return 1 if refused else 0
