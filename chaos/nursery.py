"""Starts programs as forks of one process that has imported them, so that recovery is timed and not Python's imports.

`python -m chaos.nursery` reads a line of JSON for each program to start and answers with its process id; it says by
itself which of its children ended. With its standard input all of them end.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TICK = 0.01  # seconds between two looks at the children
CLOSE_SECONDS = 30.0


class Born:
    """A program that the nursery started, with as much of Popen's face as is needed."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self.pid = pid
        self._nursery = nursery

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self._nursery.codes.get(self.pid)

    def send_signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended, and the nursery is about to say so
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code. Raises TimeoutExpired."""
        with self._nursery.changed:
            if not self._nursery.changed.wait_for(lambda: self.poll() is not None, timeout):
                raise subprocess.TimeoutExpired("a program", timeout or 0.0)
        return self._nursery.codes[self.pid]


class Nursery:
    """The nursery's process, from outside."""

    def __init__(self, env: Mapping[str, str], cwd: Path, log: Path) -> None:
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "chaos.nursery"),
                env={**env},
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
            )
        self.codes: dict[int, int] = {}
        self.changed = threading.Condition()
        self._born: list[int] = []
        threading.Thread(target=self._listen, name="nursery", daemon=True).start()

    def start(self, program: str, env: Mapping[str, str], log: Path) -> Born:
        """Start a program: scan, house or api. One caller at a time. Raises RuntimeError when the nursery is gone."""
        order = json.dumps({"program": program, "env": {**env}, "log": str(log)})
        if self._process.stdin is None:
            raise RuntimeError("the nursery has no standard input")
        self._process.stdin.write(f"{order}\n".encode())
        self._process.stdin.flush()
        with self.changed:
            if not self.changed.wait_for(lambda: bool(self._born), 60.0):
                raise RuntimeError("the nursery started nothing: see its log")
            return Born(self, self._born.pop())

    def close(self) -> None:
        """End it, and whatever it still has. Raises TimeoutExpired."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(CLOSE_SECONDS)

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            said = json.loads(line)
            with self.changed:
                if "born" in said:
                    self._born.append(said["born"])
                else:
                    self.codes[said["dead"]] = said["code"]
                self.changed.notify_all()


def main() -> int:
    """Be the nursery."""
    from chaos import programs

    programs.preload()
    children: set[int] = set()
    rest = b""
    while True:
        if select.select([0], [], [], TICK)[0]:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                pid = _fork(json.loads(line))
                children.add(pid)
                _say({"born": pid})
        while children and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            children.discard(ended[0])
            _say({"dead": ended[0], "code": os.waitstatus_to_exitcode(ended[1])})
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    return 0


def _say(what: dict[str, int]) -> None:
    os.write(1, f"{json.dumps(what)}\n".encode())


def _fork(order: dict[str, Any]) -> int:
    """Start a program; its process id. In the child this never returns."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(order["env"])
        from chaos.programs import run

        code = run(order["program"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    except BaseException:  # noqa: BLE001 - as the interpreter itself does with what nobody caught
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
