"""Runs a program, and counts the transactions that it commits: `python -m benchmarks.counted MODULE [ARGUMENT]...`."""

import itertools
import mmap
import os
import runpy
import struct
import sys
from pathlib import Path

from sqlalchemy import Connection, Engine, event

COUNTED = "BENCHMARKS_COUNTED"  # the environment variable that names the folder of counts
SUFFIX = ".commits"
FORM = struct.Struct("<Q")


def commits(folder: Path) -> int:
    """The transactions that all programs of this folder have committed so far."""
    return sum(FORM.unpack(path.read_bytes())[0] for path in folder.glob(f"*{SUFFIX}"))


def count(path: Path) -> None:
    """Keep the count of this process, and of the one that it may fork, in a file from now on."""
    path.write_bytes(FORM.pack(0))
    with path.open("r+b") as file:
        place = mmap.mmap(file.fileno(), FORM.size)
    numbers = itertools.count(1)

    @event.listens_for(Engine, "commit")
    def _committed(_connection: Connection) -> None:
        FORM.pack_into(place, 0, next(numbers))


def main() -> None:
    """Run the program."""
    count(Path(os.environ[COUNTED]) / f"{os.getpid()}{SUFFIX}")
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
