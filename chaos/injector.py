"""The injector: draws faults with a seed and injects them beside each other, at random and at named steps."""

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from chaos.faults import Faults
from chaos.history import History
from chaos.steps import FREEZABLE, STEPS, WORKER

NAMED = ("claimed", "fetched", "scanned", "committed", "acked", "outbox_written", "published", "popped")
HANDS = 3
AT_ONCE = 64
ARMED_SECONDS = 5.0  # that a step is armed in a go; between two of them other faults have their turn
HIT_SECONDS = 120.0  # until a step that nobody reaches is given up


def deck(kinds: Iterable[str], count: int, drawn: random.Random) -> list[str]:
    """So many faults: rounds of all kinds and steps, dealt into hands of which each has every named step."""
    others = [f"step {step}" for step in STEPS if step not in NAMED]
    every = [*kinds, *others, *(f"frozen {step}" for step in FREEZABLE)]
    named = [f"step {step}" for step in NAMED]

    def hands() -> Iterator[str]:
        while True:
            dealt = drawn.sample(every, len(every))
            for hand in range(HANDS):
                faults = [*dealt[hand::HANDS], *named]
                yield from drawn.sample(faults, len(faults))

    return list(itertools.islice(hands(), count))


@dataclass
class Injector:
    """Injects faults, and counts them by kind. `hits` are those that processes noted themselves, by step."""

    faults: Faults
    history: History
    random: random.Random
    counts: dict[str, int] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _steps: dict[str, threading.Lock] = field(default_factory=lambda: {step: threading.Lock() for step in STEPS})

    def run(self, drawn: Sequence[str], gap: float, progress: Callable[[int], None]) -> None:
        """Inject these faults, `gap` seconds apart in the mean, as many at once as it takes."""
        ended = threading.Event()
        watching = threading.Thread(target=self._watch_hits, args=(ended,))
        watching.start()
        try:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fault") as threads:
                for number, kind in enumerate(drawn):
                    threads.submit(self._inject, kind)
                    progress(number)
                    time.sleep(min(self.random.expovariate(1 / gap), 4 * gap))
            for step in STEPS:
                self.faults.stack.armory.disarm(step)
        finally:
            ended.set()
        watching.join()

    def _inject(self, kind: str) -> None:
        self.history.note(fault=kind)
        word, _, step = kind.partition(" ")
        try:
            if step in STEPS:
                self._at_step(step, signal.SIGKILL if word == "step" else signal.SIGSTOP)
                kind = "killed at a named step" if word == "step" else "frozen at a named step"
            else:
                self.faults.kinds[kind]()
        except Exception as error:  # noqa: BLE001 - a fault that could not be injected is said in the report
            self.errors.append(f"{kind}: {error!r}")
            return
        with self._lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def _at_step(self, step: str, action: signal.Signals) -> None:
        """Arm a step again and again until somebody reaches it. Raises TimeoutError when nobody does."""
        giving_up = time.monotonic() + HIT_SECONDS
        while time.monotonic() < giving_up:
            with self._steps[step]:
                if step not in WORKER:
                    hit = self._armed(step, action)
                else:
                    with self.faults.fleet.breaking_worker():
                        hit = self._armed(step, action)
            if hit:
                return
        raise TimeoutError(f"nobody reached {step} within {HIT_SECONDS:g} s")

    def _armed(self, step: str, action: signal.Signals) -> bool:
        """Arm a step for a while; whether it was reached."""
        self.faults.lead_to(step)
        armory = self.faults.stack.armory
        armory.arm(step, action)
        over = time.monotonic() + ARMED_SECONDS
        while time.monotonic() < over and armory.is_armed(step):
            time.sleep(0.02)
        return not armory.disarm(step)

    def _watch_hits(self, ended: threading.Event) -> None:
        """Note who was hit; let those go on, past their lease, that were frozen."""
        fleet = self.faults.fleet
        frozen: list[tuple[float, int]] = []
        last = False  # a look after the end: the last fault may just have hit
        while not last or frozen:
            last = ended.wait(0.02)
            for hit in self.faults.stack.armory.hits():
                fleet.note(hit)
                self.hits[hit.step] = self.hits.get(hit.step, 0) + 1
                self.history.note(hit=hit.step, action=hit.action, pid=hit.pid, moment=hit.moment)
                if hit.action == "SIGSTOP":
                    frozen.append((hit.moment + fleet.freeze_seconds, hit.pid))
            for due, pid in list(frozen):
                if time.monotonic() > due:
                    frozen.remove((due, pid))
                    fleet.thaw(pid)
