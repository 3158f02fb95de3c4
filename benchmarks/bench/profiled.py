"""Runs a program and notes where its CPU time goes: `python -m benchmarks.bench.profiled FILE MODULE [ARGUMENT]...`.

A thread wakes a hundred times a second. What each thread has computed since then, as the system's clock of that thread
says, is put to the account of what the thread is doing now, as a stack of functions; where it has just ended what it
did, to the account of the thread by its name. Threads that no Python runs in are those of the networks' library;
processes that this one has started are the decoders. What has been noted so far stands in the file, written anew twice
a second: who wants to know of a stretch of time subtracts.
"""

import itertools
import json
import os
import runpy
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.bench.stages import DECODERS, NATIVE, THREAD
from benchmarks.stack import ROOT, cpu_seconds, family

EVERY: Final = 0.01  # seconds
LOOKS: Final = 50  # between two writings
OWN: Final = ("pipeline", "worker", "shield")
TASKS: Final = Path("/proc/self/task")


def thread_seconds(native_id: int) -> float:
    """What a thread of this process has computed so far; 0 where it has ended."""
    try:
        return int((TASKS / str(native_id) / "schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


def stack_of(frame: FrameType | None) -> str:
    """The functions of our own files, outermost first, as `file:function;file:function`."""
    parts: list[str] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in OWN:
            parts.append(f"{path.relative_to(ROOT).with_suffix('')}:{frame.f_code.co_name}")
        frame = frame.f_back
    return ";".join(reversed(parts))


class Profile:
    """Seconds by stack, kept in a file from a thread of its own."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._seen: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, name="profile", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for number in itertools.count():
            time.sleep(EVERY)
            self._look()
            if number % LOOKS == 0:
                self._write()

    def _look(self) -> None:
        frames = sys._current_frames()  # noqa: SLF001 - there is no other door
        python = {thread.native_id: (thread.name, frames.get(thread.ident or 0)) for thread in threading.enumerate()}
        for entry in os.scandir(TASKS):
            native = int(entry.name)
            spent = thread_seconds(native)
            if native != self._thread.native_id:
                name, frame = python.get(native, ("", None))
                where = stack_of(frame) or (THREAD + (name.rpartition("_")[0] or name) if name else NATIVE)
                self._seconds[where] += max(spent - self._seen.get(native, 0.0), 0.0)
            self._seen[native] = spent

    def _write(self) -> None:
        ended = os.times()
        decoders = ended.children_user + ended.children_system + sum(map(cpu_seconds, family(os.getpid())[1:]))
        part = self._out.with_suffix(".part")
        part.write_text(json.dumps({**self._seconds, DECODERS: decoders}), encoding="utf-8")
        part.replace(self._out)


def main() -> None:
    """Run the program."""
    Profile(Path(sys.argv[1]))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
