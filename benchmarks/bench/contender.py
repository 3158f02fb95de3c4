"""Contenders: what is compared runs in processes and environments of its own, turn by turn.

A process that is not asked does nothing, so that two contenders never share the cores. One is asked in a line of JSON
on its standard input and answers in another; what it prints besides goes to var/bench/logs.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "var" / "bench"

HERE = Path(sys.executable)
TRAINING = ROOT / ".venv-training" / "bin" / "python"
BASELINES = ROOT / ".venv-baselines" / "bin" / "python"

# By name: the Python that runs it, and what gives an object whose methods are asked for.
CONTENDERS = {
    "onnx": (HERE, "benchmarks.bench.networks:Onnx"),
    "onnx-int8": (HERE, "benchmarks.bench.networks:OnnxInt8"),
    "torch": (TRAINING, "benchmarks.bench.networks:Torch"),
    "litert": (TRAINING, "benchmarks.bench.networks:LiteRT"),
    "shield": (HERE, "benchmarks.bench.scanning:Scanning"),
    "reference": (TRAINING, "benchmarks.bench.reference:Reference"),
    "shield-faces": (HERE, "benchmarks.bench.detectors:Shield"),
    "blazeface-back": (TRAINING, "benchmarks.bench.detectors:Back"),
    "blazeface-short": (TRAINING, "benchmarks.bench.detectors:Short"),
    "mediapipe-short": (BASELINES, "benchmarks.bench.detectors:MediapipeShort"),
    "mediapipe-full": (BASELINES, "benchmarks.bench.detectors:MediapipeFull"),
    "mtcnn": (TRAINING, "benchmarks.bench.detectors:Mtcnn"),
}


class ContenderError(Exception):
    """A contender did not start, or ended instead of answering; its log says why."""


class Contender:
    """A process that answers."""

    def __init__(self, name: str, process: subprocess.Popen[str], log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    def ask(self, method: str, **arguments: Any) -> Any:
        """What the contender's method returns, as JSON has it. Raises ContenderError."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ContenderError(f"{self.name} has no pipes")
        try:
            self._process.stdin.write(json.dumps([method, arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ContenderError(f"{self.name} has ended: see {self._log}")
        return json.loads(answer)


@contextmanager
def contending(name: str, core: int | None = None) -> Iterator[Contender]:
    """A contender of this name, pinned to a core where one is given, ended with the block."""
    python, _ = CONTENDERS[name]
    if not python.exists():
        raise ContenderError(f"{python} is missing: `make bench` makes it")
    log = CACHE / "logs" / (f"{name}.log" if core is None else f"{name}-{core}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        process = subprocess.Popen(
            [python, "-m", "benchmarks.bench.contender", name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with process:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})  # before it has started a thread or a child
        try:
            yield Contender(name, process, log)
        finally:
            if process.stdin:
                process.stdin.close()  # it ends when there is nothing more to read


def main(name: str) -> None:
    """Answer until nobody asks."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print what they like
    module, _, factory = CONTENDERS[name][1].partition(":")
    contender = getattr(importlib.import_module(module), factory)()
    for line in sys.stdin:
        method, arguments = json.loads(line)
        answers.write(json.dumps(getattr(contender, method)(**arguments)) + "\n")
        answers.flush()
    close = getattr(contender, "close", None)
    if close:
        close()


if __name__ == "__main__":
    main(sys.argv[1])
