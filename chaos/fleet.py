"""The processes that are broken: which of them are up, which are out, and what was lost with them."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from chaos.recovery import Loss
from chaos.stack import STORES, Death, Stack, children
from chaos.steps import Hit

FLEET_SECONDS = 60.0  # that processes may take until they are up again


@dataclass
class Fleet:
    """Kills, freezes and thaws. Who is killed or frozen is out: another fault that is aimed there would hit nothing."""

    stack: Stack
    random: random.Random
    losses: list[Loss] = field(default_factory=list)
    thawed: list[tuple[int, float]] = field(default_factory=list)  # frozen processes that went on: which, and when
    _out: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _breaking: threading.Lock = field(default_factory=threading.Lock)
    _hits: dict[int, Hit] = field(default_factory=dict)

    def up(self, names: Collection[str]) -> list[str]:
        """Those of these programs that work now."""
        return [name for name in names if self._works(name)]

    def take(self, names: Collection[str]) -> tuple[str, int]:
        """One of these programs that works, drawn when there is one, and its process: it is out now.

        Raises TimeoutError.
        """
        until = time.monotonic() + FLEET_SECONDS
        while time.monotonic() < until:
            with self._lock:
                found = self.up(names)
                name = self.random.choice(found) if found else ""
                pid = self.stack.keeper.pid(name) if name else None
                if pid is not None:
                    self._out.add(pid)
                    return name, pid
            time.sleep(0.02)
        raise TimeoutError(f"none of {', '.join(names)} was up within {FLEET_SECONDS:g} s")

    def wait_for(self, names: Sequence[str], but: int = 0) -> None:
        """Wait until all of these programs, but so many, work. Raises TimeoutError."""
        until = time.monotonic() + FLEET_SECONDS
        while len(self.up(names)) < len(names) - but:
            if time.monotonic() > until:
                raise TimeoutError(f"more than {but} of {', '.join(names)} were not up for {FLEET_SECONDS:g} s")
            time.sleep(0.02)

    def free(self, pid: int) -> None:
        """What was done to a process is over."""
        self._out.discard(pid)

    @contextlib.contextmanager
    def breaking_worker(self) -> Iterator[None]:
        """Break one worker after the other, each while all but one are up, and of two while both are.

        A fleet that is dead recovers nothing. Raises TimeoutError.
        """
        with self._breaking:
            self.wait_for(self.stack.workers, but=int(len(self.stack.workers) > 2))
            yield

    def kill(self, names: Collection[str], kind: str, hold: float = 0.0) -> None:
        """Kill one of these programs, and start it again `hold` seconds later. Raises TimeoutError."""
        name, pid = self.take(names)
        if hold:
            self.stack.keeper.hold(name, hold)
        self.strike(pid, kind)

    def strike(self, pid: int, kind: str) -> None:
        """Kill this process."""
        self._out.add(pid)
        self.losses.append(Loss(pid, 0.0, kind))
        _send(pid, signal.SIGKILL)

    def freeze_worker(self, kind: str) -> None:
        """Freeze a worker past its lease, then let it go on. Raises TimeoutError."""
        with self.breaking_worker():
            _, pid = self.take(self.stack.workers)
            _send(pid, signal.SIGSTOP)
            self.losses.append(Loss(pid, time.monotonic(), kind))
        time.sleep(self.freeze_seconds)
        self.thaw(pid)

    def thaw(self, pid: int) -> None:
        """Let a frozen process go on."""
        _send(pid, signal.SIGCONT)
        self.thawed.append((pid, time.monotonic()))
        self.free(pid)

    def note(self, hit: Hit) -> None:
        """A process that was killed or frozen at a step is out."""
        self._out.add(hit.pid)
        self._hits[hit.pid] = hit
        if hit.action == "SIGSTOP":
            self.losses.append(Loss(hit.pid, hit.moment, f"frozen {hit.step}"))

    @property
    def freeze_seconds(self) -> float:
        """How long a process is frozen."""
        return self.stack.plan.freeze_leases * self.stack.plan.lease_seconds

    def deaths_as_losses(self, deaths: Sequence[Death]) -> list[Loss]:
        """The workers that died without a chance to give anything back, and those that were frozen too long."""
        killed = [death for death in deaths if death.name.startswith("scan-") and death.code == -signal.SIGKILL]
        known = {loss.pid: loss.kind for loss in self.losses if not loss.moment}
        frozen = [loss for loss in self.losses if loss.moment]
        return frozen + [
            Loss(death.pid, hit.moment, f"step {hit.step}")
            if (hit := self._hits.get(death.pid)) is not None and hit.action == "SIGKILL"
            else Loss(death.pid, death.moment, known.get(death.pid, "poison image"))
            for death in killed
        ]

    def _works(self, name: str) -> bool:
        pid = self.stack.keeper.pid(name)
        if pid is None or pid in self._out:
            return False
        if name == "api":
            return bool(children(pid))
        return name in STORES or self.stack.is_up(name)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
