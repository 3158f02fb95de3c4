"""The faults: each kind breaks one thing, waits, and mends it. Several overlap, drawn with a seed."""

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from redis.exceptions import RedisError

from chaos.clients import Client
from chaos.history import History
from chaos.recovery import Loss
from chaos.stack import HOUSES, MIB, Death, Stack, children
from chaos.steps import FREEZABLE, STEPS, WORKER, Hit
from shield.queue import LANES

NAMED = ("claimed", "fetched", "scanned", "committed", "acked", "outbox_written", "published", "popped")
FLEET_SECONDS = 20.0  # that a worker may take until it is up again
STEP_SECONDS = 10.0  # that an armed step waits to be reached
FREEZE_LEASES = 2.5  # long enough that another worker has scanned and recorded meanwhile
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
SKEWS = ("+1h", "-1h", "+1d", "-1d")


@dataclass
class Injector:
    """Breaks a stack. `black_hole_seconds` is how long Redis swallows everything."""

    stack: Stack
    clients: list[Client]
    history: History
    random: random.Random
    black_hole_seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    thawed: list[tuple[int, float]] = field(default_factory=list)  # frozen processes that went on: which, and when
    errors: list[str] = field(default_factory=list)
    _busy: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _hit: dict[int, Hit] = field(default_factory=dict)
    _frozen: set[int] = field(default_factory=set)

    @property
    def kinds(self) -> dict[str, Callable[[], None]]:
        """What can be broken here, by name."""
        postgres = self.stack.plan.dialect == "postgresql"
        found: dict[str, Callable[[], None]] = {
            "worker killed": self._kill_worker,
            "worker frozen past its lease": self._freeze_worker,
            "house killed": self._kill_house,
            "API child killed": self._kill_api_child,
            "API parent killed": self._kill_api_parent,
            "whole tree killed": self._kill_tree,
            "rolling restart": self._rolling_restart,
            "poison image": self._poison,
            "Redis flushed": self._flush_redis,
            "Redis killed": self._kill_redis,
            "Redis out of memory": self._fill_redis,
            "Redis black hole": self._black_hole,
            "Redis connections reset": self._reset_redis,
            "messages five times, shuffled": self._multiply,
        }
        if self.stack.disk_is_ours:
            found["disk full"] = self._fill_disk
        if postgres:
            found |= {"PostgreSQL killed": self._kill_postgres, "PostgreSQL backend killed": self._kill_backend}
        if postgres and LIBRARY.exists():
            found["clock skewed"] = self._skew
        return found

    def deck(self, count: int) -> list[str]:
        """So many faults: rounds of all kinds and steps, the named steps thrice, each round shuffled."""
        every = [
            *self.kinds,
            *(f"step {step}" for step in (*STEPS, *NAMED, *NAMED)),
            *(f"frozen {s}" for s in FREEZABLE),
        ]
        rounds = itertools.chain.from_iterable(self.random.sample(every, len(every)) for _ in itertools.count())
        return list(itertools.islice(rounds, count))

    def run(self, deck: list[str], gap: float, progress: Callable[[int], None]) -> None:
        """Inject these faults, `gap` seconds apart in the mean, as many at once as it takes."""
        ended = threading.Event()
        watching = threading.Thread(target=self._watch_hits, args=(ended,))
        watching.start()
        with ThreadPoolExecutor(32, thread_name_prefix="fault") as threads:
            for number, kind in enumerate(deck):
                threads.submit(self._inject, kind)
                progress(number)
                time.sleep(min(self.random.expovariate(1 / gap), 4 * gap))
        ended.set()
        watching.join()
        for step in STEPS:
            self.stack.armory.disarm(step)

    def deaths_as_losses(self, deaths: list[Death]) -> list[Loss]:
        """The workers that died without a chance to give anything back, and those that were frozen too long."""
        killed = [death for death in deaths if death.name.startswith("scan-") and death.code == -signal.SIGKILL]
        known = {loss.pid: loss.kind for loss in self.losses if not loss.moment}
        frozen = [loss for loss in self.losses if loss.moment]
        return frozen + [
            Loss(death.pid, hit.moment, f"step {hit.step}")
            if (hit := self._hit.get(death.pid)) is not None and hit.action == "SIGKILL"
            else Loss(death.pid, death.moment, known.get(death.pid, "poison image"))
            for death in killed
        ]

    def _inject(self, kind: str) -> None:
        self.history.note(fault=kind)
        try:
            what, _, step = kind.partition(" ")
            if kind in ("worker killed", "worker frozen past its lease") or step in WORKER:
                with self._worker_to_break():
                    self._do(kind, what, step)
            else:
                self._do(kind, what, step)
        except Exception as error:  # noqa: BLE001 - a fault that could not be injected is said in the report
            self.errors.append(f"{kind}: {error!r}")

    def _do(self, kind: str, what: str, step: str) -> None:
        if step in STEPS:
            self._at_step(step, signal.SIGKILL if what == "step" else signal.SIGSTOP)
            return
        self.kinds[kind]()
        with self._lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1

    @contextlib.contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """Only one fault at a time of those that would mend each other's damage."""
        while True:
            with self._lock:
                if what not in self._busy:
                    self._busy.add(what)
                    break
            time.sleep(0.05)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(what)

    @contextlib.contextmanager
    def _worker_to_break(self) -> Iterator[None]:
        """Break one worker after the other, each while all but one are up: a fleet that is dead recovers nothing."""
        with self._alone("worker"):
            until = time.monotonic() + FLEET_SECONDS
            while time.monotonic() < until and self._workers_up() < len(self.stack.workers) - 1:
                time.sleep(0.05)
            yield

    def _workers_up(self) -> int:
        up = {self.stack.keeper.pid(name) for name in self.stack.workers if self.stack.is_up(name)}
        return len(up - self._frozen)

    @property
    def _lease(self) -> float:
        return self.stack.plan.lease_seconds

    # Steps

    def _at_step(self, step: str, action: signal.Signals) -> None:
        with self._alone(f"step {step}"):
            if step == "canceling":
                for client in self.clients:
                    client.cancels += 1
            self.stack.armory.arm(step, action)
            until = time.monotonic() + STEP_SECONDS
            while time.monotonic() < until and (self.stack.armory.folder / "armed" / step).exists():
                time.sleep(0.05)
            if self.stack.armory.disarm(step):
                return
        kind = "killed at a named step" if action == signal.SIGKILL else "frozen at a named step"
        with self._lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.hits[step] = self.hits.get(step, 0) + 1

    def _watch_hits(self, ended: threading.Event) -> None:
        """Note who was hit; let those go on, past their lease, that were frozen."""
        frozen: list[tuple[float, int]] = []
        while not ended.wait(0.02) or frozen:
            for hit in self.stack.armory.hits():
                self._hit[hit.pid] = hit
                self.history.note(hit=hit.step, action=hit.action, pid=hit.pid, moment=hit.moment)
                if hit.action == "SIGSTOP":
                    self.losses.append(Loss(hit.pid, hit.moment, f"frozen {hit.step}"))
                    self._frozen.add(hit.pid)
                    frozen.append((hit.moment + FREEZE_LEASES * self._lease, hit.pid))
            for due, pid in list(frozen):
                if time.monotonic() > due:
                    frozen.remove((due, pid))
                    self._thaw(pid)

    # Processes

    def _kill_worker(self) -> None:
        self._kill(self.random.choice(self.stack.workers), "worker killed")

    def _kill(self, name: str, kind: str) -> None:
        pid = self.stack.keeper.signal(name, signal.SIGKILL)
        if pid is not None:
            self.losses.append(Loss(pid, 0.0, kind))

    def _freeze_worker(self) -> None:
        name = self.random.choice(self.stack.workers)
        pid = self.stack.keeper.signal(name, signal.SIGSTOP)
        if pid is None:
            return
        self._frozen.add(pid)
        self.losses.append(Loss(pid, time.monotonic(), "worker frozen past its lease"))
        time.sleep(FREEZE_LEASES * self._lease)
        self._thaw(pid)

    def _thaw(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            self.thawed.append((pid, time.monotonic()))
        self._frozen.discard(pid)

    def _kill_house(self) -> None:
        self.stack.keeper.signal(self.random.choice(HOUSES), signal.SIGKILL)

    def _kill_api_child(self) -> None:
        for child in children(self.stack.keeper.pid("api") or 0):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def _kill_api_parent(self) -> None:
        self.stack.keeper.signal("api", signal.SIGKILL)

    def _kill_tree(self) -> None:
        self._kill_api_child()
        for name in ("api", *HOUSES):
            self.stack.keeper.signal(name, signal.SIGKILL)
        for name in self.stack.workers:
            self._kill(name, "whole tree killed")

    def _rolling_restart(self) -> None:
        with self._alone("restart"):
            for name in (*self.stack.workers, *HOUSES, "api"):
                self.stack.keeper.stop(name)
                self.stack.keeper.again(name)

    def _skew(self) -> None:
        with self._alone("restart"):
            name = self.random.choice(self.stack.workers)
            skewed = {
                "LD_PRELOAD": str(LIBRARY),
                "FAKETIME": self.random.choice(SKEWS),
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
            for env in (self.stack.env | skewed, self.stack.env):
                self.stack.keeper.stop(name)
                self.stack.keeper.again(name, env)
                if env is not self.stack.env:
                    time.sleep(2 * self._lease)

    # Images and messages

    def _poison(self) -> None:
        self.random.choice(self.clients).poison += 1

    def _multiply(self) -> None:
        with self._alone("multiply"):
            flag = self.stack.armory.folder / "fivefold"
            flag.touch()
            with contextlib.suppress(RedisError):
                for lane in LANES:  # and those that wait already
                    key = f"shield:{lane}"
                    waiting: list[bytes] = self.stack.redis.lrange(key, 0, -1)  # type: ignore[assignment]
                    copies = waiting * 4
                    self.random.shuffle(copies)
                    if copies:
                        self.stack.redis.lpush(key, *copies)
            time.sleep(self._lease)
            flag.unlink()

    # Redis

    def _flush_redis(self) -> None:
        with contextlib.suppress(RedisError):
            self.stack.redis.flushall()

    def _kill_redis(self) -> None:
        self.stack.keeper.hold("redis", self.random.uniform(0.3, self._lease))
        self.stack.keeper.signal("redis", signal.SIGKILL)

    def _fill_redis(self) -> None:
        with self._alone("redis memory"):
            with contextlib.suppress(RedisError):
                self.stack.redis.config_set("maxmemory", 1)
            time.sleep(self.random.uniform(0.5, 1.5) * self._lease)
            while True:
                try:
                    self.stack.redis.config_set("maxmemory", 0)
                except RedisError:
                    time.sleep(0.1)
                else:
                    return

    def _black_hole(self) -> None:
        with self._alone("proxy"):
            self.stack.proxy.swallow()
            time.sleep(self.black_hole_seconds)
            self.stack.proxy.let_through()

    def _reset_redis(self) -> None:
        self.stack.proxy.reset()

    # Storage

    def _kill_postgres(self) -> None:
        self.stack.keeper.hold("postgres", self.random.uniform(0.3, self._lease / 2))
        self.stack.keeper.signal("postgres", signal.SIGKILL)

    def _kill_backend(self) -> None:
        """One server process of the many: PostgreSQL then ends all of them, and recovers."""
        with contextlib.suppress(psycopg.Error):
            where = {"host": "127.0.0.1", "port": self.stack.postgres_port, "user": "postgres"}
            with psycopg.connect(**where, connect_timeout=2) as connection:  # type: ignore[arg-type]
                found = connection.execute("select pid from pg_stat_activity where backend_type = 'client backend'")
                os.kill(self.random.choice(found.fetchall())[0], signal.SIGKILL)

    def _fill_disk(self) -> None:
        with self._alone("disk"):
            filler = self.stack.disk / "filler"
            until = time.monotonic() + self.random.uniform(0.5, 1.0) * self._lease
            try:
                while time.monotonic() < until:
                    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                        while time.monotonic() < until:
                            file.write(bytes(MIB))
                    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                        while time.monotonic() < until:
                            file.write(bytes(4096))
                    time.sleep(0.02)
            finally:
                filler.unlink(missing_ok=True)
