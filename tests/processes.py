"""Processes that tests start."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import AnyStr


@contextmanager
def ended(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Wait for its end, as Popen does itself; it is killed where a test fails before it told it to end."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
