"""`python -m training COMMAND`: every step from data to shipped weights."""

import argparse
import importlib
import sys

COMMANDS = {
    "crops": ("training.facecrops", "cut the faces out of a data set's photos, framed as a scan frames them"),
    "swap": ("training.swaps", "put one person's face on another's photo"),
    "train": ("training.train", "fine-tune the classifier, resuming what is unfinished"),
    "export": ("training.export", "write the shipped weights, ONNX file and card from a checkpoint"),
    "evaluate": ("training.evaluate", "measure the shipped weights on labelled crops"),
    "convert-blazeface": ("training.convert", "make BlazeFace weights from MediaPipe's TFLite file"),
}


def main() -> int:
    """Parse the command line and run one command; modules are imported only when theirs is asked for."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        added = commands.add_parser(name, help=summary, description=summary)
        if name in sys.argv[1:2]:
            importlib.import_module(module).add_arguments(added)
    args = parser.parse_args()
    code: int = importlib.import_module(COMMANDS[args.command][0]).main(args)
    return code


if __name__ == "__main__":
    sys.exit(main())
