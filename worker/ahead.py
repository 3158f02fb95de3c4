"""Fetching ahead: the images of other people's servers are fetched beside the scan, which never waits for them.

A server that never answers holds up its own chunk alone, and one account's slow servers leave room for another's. What
is fetched and not yet scanned is bounded, in images at a time and in bytes a chunk.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from shield import dispatch
from shield.db import Database
from shield.dispatch import Lease
from shield.errors import StorageUnavailable
from shield.queue import INTERACTIVE, LANES
from shield.settings import MIB
from worker.keeper import Keeper
from worker.sources import Fetched, Fetcher

log = logging.getLogger(__name__)

# Images fetched at a time, each of which may be held in memory. A chunk is begun while there are fewer.
FETCHES = 48
ACCOUNT_FETCHES = 16  # of one account: others always find room, however slow its servers are
CHUNK_FETCHES = 8  # of one chunk
ALONE = 4  # chunks that are scanned alone: one after the other, so that more would only wait here, and die with us
PART_BYTES = 64 * MIB  # of fetched images that are held together


def in_parts(fetched: Iterable[Fetched]) -> Iterator[list[Fetched]]:
    """The answers in parts of about PART_BYTES: what a lease holds need not fit into memory together."""
    part: list[Fetched] = []
    size = 0
    for item, answer in fetched:
        part.append((item, answer))
        size += len(answer) if isinstance(answer, bytes) else 0
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


@dataclass(frozen=True, slots=True)
class Parcel:
    """Fetched images of one lease; `scanned` is set by who has dealt with them."""

    held: Lease
    part: list[Fetched]
    scanned: threading.Event = field(default_factory=threading.Event)


class Ahead:
    """Leases chunks that are to be fetched ahead, fetches them in threads, and hands them over in parcels.

    `wake` is called from any thread when a parcel is there. All else is for one thread.
    """

    def __init__(self, database: Database, sources: Fetcher, keeper: Keeper, seconds: float) -> None:
        self._database = database
        self._sources = sources
        self._keeper = keeper
        self._seconds = seconds
        self.wake: Callable[[], None] = lambda: None
        self._parcels: list[Parcel] = []
        self._changing = threading.Lock()
        self._in_hand: dict[str, Lease] = {}  # by token
        self._trouble: StorageUnavailable | None = None  # that nobody was told of yet
        self._stopping = False

    def begin(self) -> None:
        """Lease what there is room for, and begin to fetch it. Raises StorageUnavailable."""
        while self._trouble is None:  # else it would come back at once, and be leased again
            fetches = self._fetches()
            if fetches.total() >= FETCHES:
                return
            full = [account for account, count in fetches.items() if count >= ACCOUNT_FETCHES]
            company = self._alone() >= ALONE
            with self._database.read() as session:
                if not dispatch.ready_ahead(session, full, company):
                    return
            with self._database.write(durable=False) as session:
                held = dispatch.lease_ahead(session, self._seconds, full, company)
            if held is None:
                return
            thread = threading.Thread(target=self._fetch, args=(held,), name="ahead", daemon=True)
            with self._changing:
                self._in_hand[held.token] = held
            thread.start()

    def take(self, images: int) -> list[Parcel]:
        """What has been fetched, up to so many images or one parcel, of one lane, the interactive first.

        What is to be scanned alone comes alone. Raises StorageUnavailable if fetching did, and nothing else has come.
        """
        taken = next(filter(None, (self._take(images, lane) for lane in LANES)), [])
        if not taken and self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble
        return taken

    def take_between(self, images: int) -> list[Parcel]:
        """What has been fetched and somebody waits for, likewise, to be scanned in company."""
        return self._take(images, INTERACTIVE, alone=False)

    def _take(self, images: int, lane: str, alone: bool = True) -> list[Parcel]:
        taken: list[Parcel] = []
        with self._changing:
            for parcel in [one for one in self._parcels if one.held.lane == lane]:
                if sum(len(one.part) for one in taken) >= images or (taken and taken[0].held.alone):
                    break
                if parcel.held.alone and (taken or not alone):
                    continue
                taken.append(parcel)
                self._parcels.remove(parcel)
        return taken

    def stop(self) -> None:
        """Give back what is in hand. A fetch that has begun ends by itself, within its time."""
        self._stopping = True
        with self._changing:
            leases = list(self._in_hand.values())
        give_back(self._database, leases)

    def _fetches(self) -> Counter[str]:
        """How many images are, or may be, fetched at a time now, by account."""
        with self._changing:
            leases = list(self._in_hand.values())
        count: Counter[str] = Counter()
        for held in leases:
            count[held.account_id] += min(len(held.items), CHUNK_FETCHES)
        return count

    def _alone(self) -> int:
        """How many chunks in hand are to be scanned alone."""
        with self._changing:
            return sum(held.alone for held in self._in_hand.values())

    def _fetch(self, held: Lease) -> None:
        try:
            with self._keeper.holding([held]):
                for part in in_parts(self._fetched(held)):
                    self._hand_over(Parcel(held, part))
                    del part  # it is not kept while the next one is fetched
                    if self._stopping:
                        return
        except StorageUnavailable as error:  # our own stores are away: no image's fault
            self._trouble = error
            give_back(self._database, [held])
        except Exception:
            log.exception("chunk %s could not be fetched; its lease runs out and the sweep returns it", held.chunk_id)
        finally:
            with self._changing:
                del self._in_hand[held.token]
            self.wake()

    def _fetched(self, held: Lease) -> Iterator[Fetched]:
        for answer in self._sources.fetch_all(held.items, CHUNK_FETCHES):
            if self._stopping:
                return
            yield answer

    def _hand_over(self, parcel: Parcel) -> None:
        """Wait until these images are scanned: so a chunk never holds more than one parcel of them."""
        with self._changing:
            self._parcels.append(parcel)
        self.wake()
        while not self._stopping and not parcel.scanned.wait(1.0):
            pass


def give_back(database: Database, leases: Iterable[Lease]) -> None:
    """Release these leases, without blame; what cannot be released is left to the sweep."""
    for held in leases:
        try:
            with database.write() as session:
                dispatch.release(session, held)
        except StorageUnavailable as error:
            log.warning("chunk %s is left to the sweep, for it cannot be given back: %s", held.chunk_id, error)
