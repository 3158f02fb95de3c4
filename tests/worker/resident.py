"""`python -m tests.worker.resident`: expand what there is to expand, and print the resident bytes after every step.

A process of its own: in one that has run other tests, memory that they gave back would hide what grows.
"""

import resource
import sys
from pathlib import Path

from shield.blobs import open_blobs
from shield.db import Database
from shield.settings import settings
from worker.expand import Expander


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    config = settings()
    expander = Expander(Database(config.database), open_blobs(config), config)
    while expander.turn():
        sys.stdout.write(f"{resident()}\n")
