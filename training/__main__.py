"""`python -m training COMMAND`: every step from data to shipped weights."""

import argparse
import importlib
import sys

COMMANDS = {
    "train": ("training.train", "fine-tune the classifier, resuming what is unfinished"),
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
