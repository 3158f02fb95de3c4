"""Named steps of the programs, and what is done to a process that reaches one.

Whoever breaks things arms a step: a file of its name. The first process that reaches the step takes the file away, and
with it is killed or frozen there. Beside it every process traces what it leases and records, so that it can be told
afterwards which images a death held, and when they were recorded after all.
"""

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = "CHAOS_FOLDER"  # the environment variable that names the folder of armed steps

WORKER = {
    "leasing": "a chunk is leased, the transaction is open",
    "claimed": "chunks are leased",
    "fetched": "the images are there, none is scanned",
    "scanned": "all is scanned, nothing is recorded",
    "recording": "results are written, the transaction is open",
    "committed": "results are committed",
    "popped": "kombu has a message out of its list, and not yet among the unacknowledged",
    "acking": "the message's work is done, it is not acknowledged",
    "acked": "the message is acknowledged",
}
HOUSE = {
    "published": "messages are in Redis, the outbox still owes them",
    "sweeping": "expired leases are returned, the transaction is open",
    "expanding": "a step of a source is written, the transaction is open",
}
API = {
    "outbox_written": "a job and its outbox are written, the transaction is open",
    "accepted": "the job is committed, the client has no answer",
    "poked": "a job's first messages are in Redis, the outbox still owes them",
    "canceling": "the job is canceling, none of its items is canceled",
}
STEPS = WORKER | HOUSE | API
FREEZABLE = ("claimed", "fetched", "scanned")  # no transaction is open there


class Hit(NamedTuple):
    """A process that reached an armed step."""

    step: str
    action: str
    pid: int
    moment: float  # of time.monotonic, which all processes of a machine share


class Armory:
    """The folder of armed steps, for whoever breaks things."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("armed", "taken", "trace", "up"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._seen: set[str] = set()

    def arm(self, step: str, action: signal.Signals) -> None:
        """Have the next process that reaches this step get this signal there."""
        new = self.folder / f"{step}.new"
        new.write_text(action.name)
        new.replace(self.folder / "armed" / step)

    def disarm(self, step: str) -> bool:
        """Take it back; False when it was reached meanwhile."""
        try:
            (self.folder / "armed" / step).unlink()
        except FileNotFoundError:
            return False
        return True

    def is_armed(self, step: str) -> bool:
        """Whether nobody has reached it since it was armed."""
        return (self.folder / "armed" / step).exists()

    def is_up(self, pid: int | None) -> bool:
        """Whether this process has got so far that it works."""
        return (self.folder / "up" / str(pid)).exists()

    def hits(self) -> Iterator[Hit]:
        """The hits since this was last asked."""
        for path in sorted((self.folder / "taken").iterdir()):
            if path.name not in self._seen:
                self._seen.add(path.name)
                step, pid, nanoseconds = path.name.split("-")
                yield Hit(step, path.read_text(), int(pid), int(nanoseconds) / 1e9)

    def traces(self) -> Iterator[dict[str, Any]]:
        """What all processes traced, each in its order. A line that a death cut off is left out."""
        for path in (self.folder / "trace").iterdir():
            for line in path.read_text().splitlines():
                with suppress(json.JSONDecodeError):
                    yield json.loads(line)


class Steps:
    """The steps of this process: `reach` ends or freezes it where the step is armed."""

    def __init__(self, folder: Path) -> None:
        self._armed = folder / "armed"
        self._taken = folder / "taken"
        self._trace = os.open(folder / "trace" / f"{os.getpid()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._up = folder / "up" / str(os.getpid())
        self._up.unlink(missing_ok=True)  # of an earlier process of this id
        self.spared: set[str] = set()  # chunks that this process holds and that no injected death may hit

    def reach(self, step: str) -> None:
        """Be at this step. An image that died twice alone is spared: a third death at random would call it poison."""
        if self.spared:
            return
        try:
            (self._armed / step).rename(taken := self._taken / f"{step}-{os.getpid()}-{time.monotonic_ns()}")
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.Signals[taken.read_text()])
        time.sleep(0.01)  # a signal that a process sends itself may reach another thread first

    def note(self, what: str, **facts: object) -> None:
        """Trace one line, whole even if the process is killed right after."""
        line = json.dumps({"what": what, "moment": time.monotonic(), "pid": os.getpid(), **facts})
        os.write(self._trace, f"{line}\n".encode())

    def up_before(self, owner: object, name: str) -> None:
        """This process is up when this function is called for the first time."""
        original = getattr(owner, name)

        @wraps(original)
        def noting(*args: Any, **named: Any) -> Any:
            if not self._up.exists():
                self._up.touch()
                self.note("up")
            return original(*args, **named)

        setattr(owner, name, noting)

    def before(self, owner: object, name: str, step: str) -> None:
        """Reach a step whenever this function is called."""
        original = getattr(owner, name)

        @wraps(original)
        def reaching(*args: Any, **named: Any) -> Any:
            self.reach(step)
            return original(*args, **named)

        setattr(owner, name, reaching)

    def after(self, owner: object, name: str, step: str) -> None:
        """Reach a step whenever this function has returned."""
        original = getattr(owner, name)

        @wraps(original)
        def reaching(*args: Any, **named: Any) -> Any:
            answer = original(*args, **named)
            self.reach(step)
            return answer

        setattr(owner, name, reaching)


def multiply(steps_folder: Path, publish: Callable[..., int]) -> Callable[..., int]:
    """A publish that sends every message five times, shuffled, while the file FOLDER/fivefold is there."""
    import random

    @wraps(publish)
    def fivefold(queue: Any, messages: list[Any]) -> int:
        if not (steps_folder / "fivefold").exists():
            return publish(queue, messages)
        copies = list(itertools.chain.from_iterable([message] * 5 for message in messages))
        random.shuffle(copies)
        sent = publish(queue, copies)
        return len(messages) if sent == len(copies) else 0

    return fivefold
