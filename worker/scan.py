"""Scanning: lease chunks until the batch is full, fetch, have them measured, and recorded as they are whole.

A batch is of one lane. Between two groups of a bulk batch, what somebody waits for goes first: interactive chunks, of
uploads as of URLs, and explanations. What was fetched ahead is scanned in batches of its own. No transaction is open
while an image is fetched or scanned.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing

from shield import dispatch
from shield.blobs import Blobs
from shield.db import Database
from shield.dispatch import Lease
from shield.errors import StorageUnavailable
from shield.outcomes import Failed
from shield.policy import Policy
from shield.queue import BULK, INTERACTIVE
from shield.settings import Settings
from worker.ahead import Ahead, Parcel, give_back, in_parts
from worker.foresight import Foresight
from worker.keeper import IMAGE_SECONDS, Keeper
from worker.measuring import Found, Measuring, Scanner
from worker.policies import Policies
from worker.recording import Recorder
from worker.sources import Fetched, Fetcher, Sources

log = logging.getLogger(__name__)

FETCHES = 16  # images of a batch that are read at a time
LOOK_SECONDS = 0.05  # a bulk batch goes on for at least so long before others go between again


class Scanning:
    """Scans ready chunks, a batch at a time. For one thread; `stopping` may be set from any other.

    Once `stopping` is set nothing more is scanned: what is leased and not yet scanned is given back without blame.
    `between` is called between two groups of a bulk batch: it may make one explanation.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        scanner: Scanner,
        policy: Policy,
        config: Settings,
        sources: Fetcher | None = None,
    ) -> None:
        self._database = database
        self._config = config
        self._sources = sources or Sources(database, blobs, config)
        self._foresight = Foresight(database, self._sources, config.batch_images)
        self._keeper = Keeper(database, config.lease_seconds)
        self._measuring = Measuring(database, scanner)
        self._policies = Policies(database, policy)
        self._recorder = Recorder(database, blobs, self._policies, self._keeper)
        self._beside = ThreadPoolExecutor(2, thread_name_prefix="record")  # for two batches, one between the other
        self._next_look = 0.0
        self.ahead = Ahead(database, self._sources, self._keeper, config.lease_seconds)
        self.between: Callable[[], object] = lambda: None
        self.stopping = False

    def scan_ready(self) -> bool:
        """Scan the next ready chunk with what fits beside it, and what was fetched ahead; False when there is neither.

        Raises StorageUnavailable when nothing could be leased, or fetched from the blob store.
        """
        self.ahead.begin()
        leases = self._lease_interactive() or self._lease(BULK)
        if leases:
            self._scan(leases)
        if self.stopping:
            return True
        parcels = self.ahead.take(self._config.batch_images)
        if parcels:
            self._scan_parcels(parcels)
        return bool(leases or parcels)

    def _lease_interactive(self) -> list[Lease]:
        """Interactive chunks, and those that come within a few milliseconds: together they share a forward pass."""
        leases = self._lease(INTERACTIVE)
        if leases and not leases[0].alone:
            time.sleep(self._config.company_seconds)
            leases += self._lease(INTERACTIVE, leases)
        return leases

    def _lease(self, lane: str, company: Sequence[Lease] = (), alone: bool = True) -> list[Lease]:
        """Chunks of a lane that are not fetched ahead, until the batch is full or none is ready.

        They are scanned beside `company`; where they cannot be `alone`, what has to be is passed over.
        """
        leases: list[Lease] = []
        images = sum(len(held.items) for held in company)
        while images < self._config.batch_images and not (leases and leases[0].alone):
            accompanied = bool(company or leases) or not alone
            try:
                with self._database.read() as session:
                    if not dispatch.ready(session, lane, accompanied):
                        break
                with self._database.write(durable=False) as session:
                    held = dispatch.lease_next(session, self._config.lease_seconds, accompanied, (lane,))
            except StorageUnavailable:
                if not (company or leases):
                    raise
                break
            if held is None:
                break
            leases.append(held)
            images += len(held.items)
        return leases

    def _scan(self, leases: Sequence[Lease]) -> None:
        items = [item for held in leases for item in held.items]
        lease_of = {item.id: held for held in leases for item in held.items}
        place = {item.id: number for number, item in enumerate(items)}
        fetched = (self._foresight if leases[0].lane == BULK else self._sources).fetch_all(items, FETCHES)
        with self._keeper.holding(leases), self._watching(items):
            try:
                for part in in_parts(self._advancing(fetched)):
                    if self.stopping:
                        break
                    self._finish(sorted(part, key=lambda fetched: place[fetched[0].id]), lease_of)
                if self.stopping:
                    give_back(self._database, leases)
            except StorageUnavailable:  # the blob store is away: no image's fault, and no worker's
                give_back(self._database, leases)
                raise

    def _scan_parcels(self, parcels: Sequence[Parcel]) -> None:
        try:
            with self._database.write(durable=False) as session:
                living = dispatch.begin(session, [parcel.held for parcel in parcels])
            held = [parcel for parcel in parcels if parcel.held.chunk_id in living]
            fetched = [answer for parcel in held for answer in parcel.part]
            lease_of = {item.id: parcel.held for parcel in held for item, _ in parcel.part}
            with self._watching(fetched):
                self._finish(fetched, lease_of)
            if self.stopping:
                give_back(self._database, [parcel.held for parcel in held])
        finally:
            for parcel in parcels:
                parcel.scanned.set()

    def _watching(self, images: Sequence[object]) -> AbstractContextManager[None]:
        return self._keeper.watching(IMAGE_SECONDS * (len(images) + 1))

    def _advancing(self, fetched: Iterable[Fetched]) -> Iterator[Fetched]:
        for answer in fetched:
            if self.stopping:
                return
            self._keeper.advance()
            yield answer

    def _finish(self, fetched: Sequence[Fetched], lease_of: Mapping[str, Lease]) -> None:
        """Have what was fetched measured, and recorded lease by lease; once `stopping`, what is measured by then.

        What is whole is recorded beside the scan of what follows. This returns when all is recorded.
        """
        leases = {held.token: held for held in (lease_of[item.id] for item, _ in fetched)}
        sizes = Counter(lease_of[item.id].token for item, _ in fetched)
        yields = all(held.lane == BULK and not held.alone for held in leases.values())
        found: dict[str, list[Found | Failed]] = {token: [] for token in leases}
        recording: list[Future[None]] = []
        if yields:
            self._foresight.begin(FETCHES)
            self._next_look = max(self._next_look, time.monotonic() + LOOK_SECONDS)
        try:
            with closing(self._measuring.answers(fetched)) as answers:
                for number, answer in enumerate(answers, 1):
                    self._keeper.advance()
                    held = lease_of[answer.item_id]
                    found[held.token].append(answer)
                    if number == len(fetched) or self.stopping:
                        break
                    if len(found[held.token]) == sizes[held.token]:
                        recording.append(self._beside.submit(self._record, held, found.pop(held.token)))
                    if yields:
                        self._let_between()
            for token, rest in found.items():
                if rest:
                    self._record(leases[token], rest)
        finally:
            wait(recording)
        for one in recording:
            one.result()

    def _record(self, held: Lease, found: Sequence[Found | Failed]) -> None:
        self._recorder.record(held, found, lambda: self.stopping)

    def _let_between(self) -> None:
        """Between two groups of a bulk batch: scan and record what somebody waits for, if there is any.

        What must be scanned alone waits for the end of the batch. Whatever goes wrong is not the batch's trouble.
        """
        if self.stopping or time.monotonic() < self._next_look:
            return
        pause = LOOK_SECONDS
        try:
            self.between()
            with self._database.read() as session:
                waits = dispatch.waits(session, INTERACTIVE)
            if waits:
                self.ahead.begin()
                if leases := self._lease(INTERACTIVE, alone=False):
                    self._scan(leases)
            if parcels := self.ahead.take_between(self._config.batch_images):
                self._scan_parcels(parcels)
        except StorageUnavailable as error:
            log.warning("between two groups nothing can be scanned: %s", error)
            pause = self._config.lease_poll_seconds
        except Exception:
            log.exception("what went between two groups could not be finished; its leases run out and others take them")
        self._keeper.advance()
        self._next_look = time.monotonic() + pause
