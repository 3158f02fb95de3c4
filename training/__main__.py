"""`python -m training COMMAND`: every step from data to shipped weights."""

import argparse
import importlib
import sys

COMMANDS = {
    "crops": ("training.facecrops", "cut the faces out of a data set's photos, framed as a scan frames them"),
    "prepare": ("training.prepare", "make the crops and manifests that training reads from the data folder"),
    "import-decisions": ("training.decisions", "make a manifest of moderators' decisions, checked for leaks"),
    "check": ("training.check", "check a data set before training: rows, pictures, leaks, duplicates, labels"),
    "bias": ("training.bias", "prove on a skewed subset what pouring in another source does, and how to mend it"),
    "margin": ("training.margin", "measure what the crop's margin does to the score"),
    "swap": ("training.swaps", "put one person's face on another's photo"),
    "search": ("training.search", "try a grid of hyper-parameters under MLRun; the best point feeds train"),
    "train": ("training.train", "fine-tune the classifier, resuming what is unfinished"),
    "mean": ("training.mean", "take the mean of two trainings' weights, as a checkpoint"),
    "export": ("training.export", "write the shipped weights, ONNX file and card from a checkpoint"),
    "quantise": ("training.quantise", "write the shipped classifier once more, in eight bits"),
    "evaluate": ("training.evaluate", "measure the shipped weights on labelled crops"),
    "report": ("training.report", "measure the shipped weights on every kind of fake: table, pictures, bars"),
    "leave-one-out": ("training.leftout", "measure a network on the kinds of fakes that it never saw"),
    "model-card": ("training.modelcard", "write docs/model-card.md from the weights card and the report's figures"),
    "smoke": ("training.smoke", "go the whole way from search to evaluation on a small slice"),
    "runs": ("training.runs", "list what was tracked"),
    "detector": ("training.detector", "fine-tune BlazeFace on box-annotated photos, measured out of fold"),
    "convert-blazeface": ("training.convert", "make BlazeFace weights from MediaPipe's TFLite file"),
}


def run_command(words: list[str]) -> int:
    """Parse a command line and run its command; a command's module is imported only when it is asked for.

    2 when the command needs a package that this environment does not have.
    """
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = words[0] if words else ""
    try:
        for name, (module, summary) in COMMANDS.items():
            added = commands.add_parser(name, help=summary, description=summary)
            if name == asked:
                importlib.import_module(module).add_arguments(added)
        args = parser.parse_args(words)
        code: int = importlib.import_module(COMMANDS[args.command][0]).main(args)
    except ModuleNotFoundError as error:
        print(
            f"{asked} needs {error.name}: run it with .venv-training/bin/python, which `make test` makes",
            file=sys.stderr,
        )
        return 2
    return code


if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:]))
