"""Check a data set before training on it: `python -m training check --manifest CSV --root DIR_OR_ZIP`.

Every row well-formed, every picture readable, every group in one split, no picture twice or nearly the same in a later
split, every source under both labels. Each finding is printed with its row.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from training.data import (
    DataError,
    Example,
    Pictures,
    check_sources,
    manifest_rows,
    open_pictures,
    read_rgb,
    read_row,
    split_groups,
)
from training.duplicates import find_duplicates


def findings(manifest: Path, pictures: Pictures) -> Iterator[str]:
    """What is wrong with a manifest and its pictures, a message each. Raises DataError when there is none to read."""
    rows = manifest_rows(manifest)
    if not rows:
        yield f"{manifest} has no rows"
    examples: list[Example] = []
    for number, row in rows:
        try:
            example = read_row(manifest, number, row)
            read_rgb(example, pictures)
        except DataError as error:
            yield str(error)
        else:
            examples.append(example)
    yield from split_groups(examples)
    for duplicate in find_duplicates(examples, pictures):
        yield f"{duplicate.example.where}: {duplicate} ({duplicate.shows.where})"
    for source in sorted({example.source for example in examples}):
        try:
            check_sources([example for example in examples if example.source == source])
        except DataError as error:
            yield f"{manifest}: {error}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--manifest", type=Path, required=True, help="CSV with the columns file,label")
    parser.add_argument("--root", type=Path, required=True, help="folder or zip that the files are in")


def main(args: argparse.Namespace) -> int:
    """Run the command: prints each finding; 1 when there is one, 2 when manifest or root cannot be read."""
    count = 0
    try:
        for finding in findings(args.manifest, open_pictures(args.root)):
            sys.stdout.write(f"{finding}\n")
            count += 1
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{args.manifest}: {count} findings\n")
    return 1 if count else 0
