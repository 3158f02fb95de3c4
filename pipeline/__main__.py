"""`python -m pipeline FILE_OR_DIR...`: one JSON line per image, in the order given. No queue, no database."""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.images import ImageError, sniff
from pipeline.results import ErrorCode
from pipeline.scan import CLASSIFIER, Scanner, ScannerSettings
from pipeline.weights import WeightsError

FILES_AT_ONCE = 64


def find_files(paths: list[Path]) -> list[Path]:
    """The files named, and all image files below the folders named, sorted in each; says what is missing."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(sorted(file for file in path.rglob("*") if file.is_file() and _looks_like_image(file)))
        elif path.is_file():
            found.append(path)
        else:
            print(f"{path}: no such file or folder", file=sys.stderr)
    return found


def _looks_like_image(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            sniff(file.read(32))
        except ImageError as error:
            # A file that fails for another reason than its kind is still reported.
            return error.code is not ErrorCode.NOT_AN_IMAGE
    return True


def scan_files(scanner: Scanner, files: list[Path]) -> Iterator[dict[str, Any]]:
    """One result per file, its name first."""
    rest = iter(files)
    while group := list(islice(rest, FILES_AT_ONCE)):
        for file, scan in zip(group, scanner.scan([file.read_bytes() for file in group]), strict=True):
            yield {"file": str(file), **scan.as_json()}


def main(argv: list[str] | None = None) -> int:
    """Run the command: 1 when a path that is named is not there or no file was found, 2 when nothing can be scanned."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_DIR")
    parser.add_argument("--crops", action="store_true", help="the files are face crops already: skip detection")
    parser.add_argument("--engine", choices=("onnx", "onnx-int8", "torch"), default="onnx")
    parser.add_argument("--device", default="cuda", help="for the torch engine: cuda, cuda:1, cpu, mps")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the ONNX engine (default: all cores)")
    parser.add_argument("--batch", type=_positive, default=32, metavar="N", help="crops in one forward pass")
    parser.add_argument("--classifier", type=Path, default=CLASSIFIER, metavar="CARD", help="another weights card")
    args = parser.parse_args(argv)
    files = find_files(args.paths)
    if not files:
        print("no image file found", file=sys.stderr)
        return 1
    settings = ScannerSettings(
        engine=args.engine,
        device=args.device,
        threads=args.threads,
        batch=args.batch,
        crops=args.crops,
        classifier=args.classifier,
    )
    try:
        with Scanner(settings) as scanner:
            for result in scan_files(scanner, files):
                print(json.dumps(result), flush=True)
    except (WeightsError, ModuleNotFoundError, OSError) as error:
        print(f"cannot go on: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0 if all(path.exists() for path in args.paths) else 1


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
