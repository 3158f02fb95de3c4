"""A real server for the client to talk to: the API over SQLite and files, and a worker that judges by the bytes.

The worker leases and records through the ledger as the real one does; only the networks are missing. Bytes that begin
with `fake` are a fake, with `broken` no image; all others are clear.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select
from werkzeug.serving import make_server

from api.app import create_app
from shield import accounts, dispatch, policies
from shield.blobs import LocalBlobs
from shield.db import Database
from shield.dispatch import LeasedItem
from shield.models import Account, Item
from shield.outcomes import Failed, Outcome, Scanned
from shield.policy import FaceFacts, Judgement
from shield.queue import MemoryQueue
from shield.settings import MIB, Settings
from shield.states import Verdict
from shield.supervisor import make_home
from tests.databases import fresh_sqlite

WEIGHTS = "a" * 64
LIMIT = 24 * MIB


class House:
    """The server at `url`, which knows `key`."""

    def __init__(self, home: Path) -> None:
        make_home(home)
        settings = Settings(
            _env_file=None,
            home=home,
            database_url=fresh_sqlite(home),
            blobs="",
            chunk_items=4,
            max_image_bytes=LIMIT,
            max_items=500,
        )
        self.database = Database(settings.database)
        self.blobs = LocalBlobs(settings.blob_folder)
        with self.database.write() as session:
            self.key = accounts.create_key(session, accounts.create_account(session, "acme").id)
            policies.register_weights(session, WEIGHTS, "test", "1", 0.8, 0.5)
        self.server = make_server("127.0.0.1", 0, create_app(settings, MemoryQueue()), threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.database.close()

    def another_key(self) -> str:
        """The key of another account."""
        with self.database.write() as session:
            count = len(session.scalars(select(Account)).all())
            return accounts.create_key(session, accounts.create_account(session, f"other {count}").id)

    def blob_of(self, item_id: str) -> bytes:
        """The bytes that were stored for an item."""
        with self.database.read() as session:
            sha256 = session.get_one(Item, item_id).source_blob
        assert sha256 is not None
        return self.blobs.get(sha256)

    def scan_one_chunk(self) -> bool:
        """Scan the next chunk; whether there was one."""
        with self.database.write() as session:
            held = dispatch.lease_next(session, 60) or dispatch.lease_ahead(session, 60)
            if held is not None:
                dispatch.record(session, held, [self._judge(item) for item in held.items])
        return held is not None

    def scan_all(self) -> None:
        """Scan until nothing is left."""
        while self.scan_one_chunk():
            pass

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """Scan whatever comes, from a thread of its own."""
        leave = threading.Event()

        def run() -> None:
            while not leave.wait(0.02):
                self.scan_all()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            leave.set()
            thread.join()

    def _judge(self, item: LeasedItem) -> Outcome:
        content = self.blobs.get(item.blob) if item.blob else b""
        if content.startswith(b"broken"):
            return Failed(item.id, "not_an_image", "the first bytes are those of no image format")
        fake = content.startswith(b"fake")
        score = 0.9 if fake else 0.1
        return Scanned(
            item_id=item.id,
            judgement=Judgement(Verdict.FAKE if fake else Verdict.CLEAR, ("because",), score),
            faces=(FaceFacts(1.0, 2.0, 30.0, 40.0, 0.95, score, ((1.0, 2.0),) * 6),),
            width=100,
            height=80,
            format="JPEG",
            sha256="b" * 64,
            view_blob=None,
            weights_sha256=WEIGHTS,
            policy_version="default/test-1",
        )
