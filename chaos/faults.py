"""The faults: each kind breaks one thing, waits, and mends it. Several overlap."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from redis.exceptions import RedisError

from benchmarks.stack import until
from chaos.clients import Client
from chaos.fleet import Fleet
from chaos.stack import HOUSES, MIB, Stack, children
from shield.queue import LANES

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
SKEWS = ("+1h", "-1h", "+1d", "-1d")
TRY_SECONDS = 60.0  # that a fault may take to strike: what it breaks may be broken already


@dataclass
class Faults:
    """Breaks a stack. The first black hole lasts `black_hole_seconds`, those after it two leases."""

    stack: Stack
    fleet: Fleet
    clients: list[Client]
    random: random.Random
    black_hole_seconds: float
    black_holes: list[float] = field(default_factory=list)  # how long each lasted, in seconds
    _restarting: threading.Lock = field(default_factory=threading.Lock)
    _multiplying: threading.Lock = field(default_factory=threading.Lock)
    _filling_redis: threading.Lock = field(default_factory=threading.Lock)
    _filling_disk: threading.Lock = field(default_factory=threading.Lock)
    _swallowing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def kinds(self) -> dict[str, Callable[[], None]]:
        """What can be broken here, by name. Each raises TimeoutError when it found nothing to break."""
        postgres = self.stack.plan.dialect == "postgresql"
        found: dict[str, Callable[[], None]] = {
            "worker killed": self._kill_worker,
            "worker frozen past its lease": lambda: self.fleet.freeze_worker("worker frozen past its lease"),
            "house killed": lambda: self.fleet.kill(HOUSES, "house killed"),
            "API child killed": self._kill_api_child,
            "API parent killed": lambda: self.fleet.kill(["api"], "API parent killed"),
            "whole tree killed": self._kill_tree,
            "rolling restart": self._rolling_restart,
            "poison image": self._poison,
            "Redis flushed": lambda: _persist(self.stack.redis.flushall),
            "Redis killed": lambda: self.fleet.kill(["redis"], "Redis killed", self._some(0.1, 1.0)),
            "Redis out of memory": self._fill_redis,
            "Redis black hole": self._black_hole,
            "Redis connections reset": self.stack.proxy.reset,
            "messages five times, shuffled": self._multiply,
        }
        if self.stack.disk_is_ours:
            found["disk full"] = self._fill_disk
        if postgres:
            found["PostgreSQL killed"] = lambda: self.fleet.kill(
                ["postgres"], "PostgreSQL killed", self._some(0.1, 0.5)
            )
            found["PostgreSQL backend killed"] = lambda: _persist(self._kill_backend)
        if postgres and LIBRARY.exists():
            found["clock skewed"] = self._skew
        return found

    def lead_to(self, step: str) -> None:
        """Have happen what leads to a step that is rarely reached by itself."""
        match step:
            case "canceling":
                self.random.choice(self.clients).cancels += 1
            case "expanding":
                self.random.choice(self.clients).manifests += 1
            case "sweeping":
                with self.fleet.breaking_worker():
                    self.stack.armory.arm("claimed", signal.SIGKILL)
            case _:
                pass  # clients lead there all the time

    def _some(self, least: float, most: float) -> float:
        """Seconds, between so many leases."""
        return self.random.uniform(least, most) * self.stack.plan.lease_seconds

    # Processes

    def _kill_worker(self) -> None:
        with self.fleet.breaking_worker():
            self.fleet.kill(self.stack.workers, "worker killed")

    def _kill_api_child(self) -> None:
        _, parent = self.fleet.take(["api"])
        for child in children(parent):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.fleet.free(parent)

    def _kill_tree(self) -> None:
        names = ("api", *HOUSES, *self.stack.workers)
        parents = [pid for name in names if (pid := self.stack.keeper.pid(name)) is not None]
        for pid in [*(child for parent in parents for child in children(parent)), *parents]:
            self.fleet.strike(pid, "whole tree killed")

    def _rolling_restart(self) -> None:
        with self._restarting:
            for name in (*self.stack.workers, *HOUSES, "api"):
                self._restart(name)

    def _skew(self) -> None:
        with self._restarting:
            name = self.random.choice(self.stack.workers)
            skewed = {
                "LD_PRELOAD": str(LIBRARY),
                "FAKETIME": self.random.choice(SKEWS),
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
            self._restart(name, self.stack.env | skewed)
            self.fleet.wait_for([name])
            time.sleep(self._some(2.0, 2.0))
            self._restart(name, self.stack.env)

    def _restart(self, name: str, env: dict[str, str] | None = None) -> None:
        """Stop a program cleanly and start it again; not while it is frozen, for stopping would let it go on."""
        self.fleet.take([name])
        self.stack.keeper.stop(name)
        self.stack.keeper.again(name, env)

    # Images and messages

    def _poison(self) -> None:
        client = self.random.choice(self.clients)
        client.poison += 1
        until(lambda: client.poison == 0)

    def _multiply(self) -> None:
        with self._multiplying:
            flag = self.stack.armory.folder / "fivefold"
            flag.touch()
            try:
                for lane in LANES:  # and those that wait already
                    _persist(lambda lane=lane: self._multiply_waiting(f"shield:{lane}"))  # type: ignore[misc]
                time.sleep(self._some(1.0, 1.0))
            finally:
                flag.unlink()

    def _multiply_waiting(self, key: str) -> None:
        waiting: list[bytes] = self.stack.redis.lrange(key, 0, -1)  # type: ignore[assignment]
        copies = waiting * 4
        self.random.shuffle(copies)
        if copies:
            self.stack.redis.lpush(key, *copies)

    # Redis

    def _fill_redis(self) -> None:
        with self._filling_redis:
            try:
                _persist(lambda: self.stack.redis.config_set("maxmemory", 1))
                time.sleep(self._some(0.5, 1.5))
            finally:
                _persist(lambda: self.stack.redis.config_set("maxmemory", 0))

    def _black_hole(self) -> None:
        with self._swallowing:
            seconds = self._some(2.0, 2.0) if self.black_holes else self.black_hole_seconds
            self.black_holes.append(seconds)
            self.stack.proxy.swallow()
            time.sleep(seconds)
            self.stack.proxy.let_through()

    # Storage

    def _kill_backend(self) -> None:
        """One server process of the many: PostgreSQL then ends all of them, and recovers."""
        where: dict[str, Any] = {"host": "127.0.0.1", "port": self.stack.postgres_port, "user": "postgres"}
        others = "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        with psycopg.connect(**where, connect_timeout=2) as connection:
            found = connection.execute(others).fetchall()
        if not found:
            raise ProcessLookupError("no other connection")
        os.kill(self.random.choice(found)[0], signal.SIGKILL)

    def _fill_disk(self) -> None:
        with self._filling_disk:
            filler = self.stack.disk / "filler"
            try:
                _fill(filler)
                over = time.monotonic() + self._some(0.5, 1.0)
                while time.monotonic() < over:  # what others free meanwhile is taken too
                    _fill(filler)
                    time.sleep(0.02)
            finally:
                filler.unlink(missing_ok=True)


def _persist(strike: Callable[[], object]) -> None:
    """Strike as soon as there is something to strike. Raises TimeoutError when there never is."""
    giving_up = time.monotonic() + TRY_SECONDS
    while True:
        try:
            strike()
        except (RedisError, psycopg.Error, ProcessLookupError) as error:
            if time.monotonic() > giving_up:
                raise TimeoutError(f"nothing to break within {TRY_SECONDS:g} s: {error!r}") from error
            time.sleep(0.05)
        else:
            return


def _fill(filler: Path) -> None:
    """Write until nothing more fits."""
    for size in (MIB, 4096):
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(size))
