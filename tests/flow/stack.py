"""The embedded stack as a child process: started as an operator starts it, and watched through HOME/up.json."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
STOP_SECONDS = 90.0


class Stack:
    """`python -m shield up` in a home of its own. `settings` are added to its environment."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.log = home.with_name(f"{home.name}.log")
        self.env = {name: text for name, text in os.environ.items() if not name.startswith("SHIELD_")}
        self.env |= {"SHIELD_HOME": str(home), "SHIELD_PORT": "0", "PYTHONUNBUFFERED": "1", **settings}
        line = [sys.executable, "-m", "shield", "up", "--key-file", str(home.with_name("key"))]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                line, cwd=ROOT, env=self.env, stdout=log, stderr=log, start_new_session=True
            )

    def children(self) -> dict[str, int | None]:
        """The process ids of the children by name; None for one that is about to be started again."""
        found: dict[str, int | None] = json.loads((self.home / "up.json").read_text())["children"]
        return found

    def until_ready(self) -> Self:
        """Wait until it takes work."""
        self.wait_for(self._ready, START_SECONDS, "the stack to be ready")
        self.url = str(json.loads((self.home / "up.json").read_text())["url"])
        self.key = self.home.with_name("key").read_text()
        return self

    def _ready(self) -> bool:
        assert self.process.poll() is None, f"the stack ended: {self.log.read_text()}"
        up = self.home / "up.json"
        if not up.exists():
            return False
        try:
            return httpx.get(json.loads(up.read_text())["url"] + "/readyz", timeout=5).is_success
        except httpx.TransportError:
            return False

    def kill(self, name: str) -> int:
        """Kill -9 one child; the process id that it had."""
        pid = self.children()[name]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_for(self, happened: Callable[[], bool], seconds: float, what: str) -> None:
        """Look until something has happened; fail with the logs' ends when it has not in time."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}\n{self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """The last lines of every log."""
        logs = [self.log, *sorted((self.home / "logs").glob("*.log"))]
        return "\n".join(f"{log.name}:\n" + "\n".join(log.read_text().splitlines()[-20:]) for log in logs)

    def stop(self) -> int:
        """Stop it in order; its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
