"""Expanding: jobs whose source is a manifest, a zip or an S3 prefix get their items, a bounded step of each in turn.

Accounts take turns, and so do the jobs of one account. Between two steps nothing is held but whose turn it is, and
which jobs wait for a server: how far a source is stands in SQL, so going on after a step and going on after a crash are
one and the same. While the backlog is full, the sources of accounts that have more than their part of it wait: else a
few manifests, each accepted while there was room, would fill the database far beyond its limit.
"""

import logging
import threading
import time
from collections.abc import Collection, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from shield import buckets, expansion, jobs, quotas
from shield.archive import Archive, DamagedMember, Member
from shield.blobs import Blobs
from shield.db import Database
from shield.errors import (
    BlobMissing,
    InvalidSubmission,
    NotAZip,
    S3Forbidden,
    S3Missing,
    SourceFailed,
    StorageUnavailable,
    UnsafeZip,
)
from shield.expansion import Expanding, Found, Rejected, Step
from shield.jobs import NewItem
from shield.settings import Settings
from shield.states import SourceKind
from worker.manifest import Fault, read_lines

log = logging.getLogger(__name__)

STEP = {SourceKind.MANIFEST: 1000, SourceKind.PREFIX: 1000, SourceKind.ZIP: 64}  # a zip's members are stored one by one
UNREADABLE = (BlobMissing, NotAZip, UnsafeZip, S3Missing, S3Forbidden, SourceFailed)  # trying again would not help
# What is stored here, and what is listed on a server of others: when that one hangs, it holds up its like alone.
STORED, LISTED = (SourceKind.MANIFEST, SourceKind.ZIP), (SourceKind.PREFIX,)
LONGEST_WAIT = 60.0  # seconds between two tries of a job whose source cannot be read now
# A server that has given nothing for so long is not merely restarted. Counted in this process: another begins anew.
GIVE_UP_SECONDS = 3600.0


class Entry(NamedTuple):
    """One line, member or key: where to go on after it, and what it is; nothing where it is to be passed over."""

    cursor: str
    found: NewItem | Fault | None


@dataclass(slots=True)
class _Trouble:
    """Of a job whose source cannot be read now: since when, how long it waits, and until when, by time.monotonic."""

    since: float
    wait: float
    until: float


class Expander:
    """Takes steps of expanding jobs, for one thread. `stopping` may be set from any other: its step is cut short."""

    def __init__(
        self, database: Database, blobs: Blobs, config: Settings, kinds: Collection[SourceKind] = expansion.KINDS
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._config = config
        self._kinds = kinds
        self._account = ""
        self._job_of: dict[str, str] = {}  # of the accounts whose jobs expand, the job that was served last
        self._troubles: dict[str, _Trouble] = {}
        self.stopping = threading.Event()

    def turn(self) -> bool:
        """Take one step of the job whose turn it is; False when there is none.

        A job whose source cannot be read now is put off. Raises StorageUnavailable when it is the database that cannot
        take the step: nothing of it is written.
        """
        expanding = self._next()
        if expanding is None:
            return False
        try:
            self._step(expanding)
        except UNREADABLE as error:
            self._fail(expanding, str(error))
        except StorageUnavailable:
            raise
        except Exception as error:  # a fault of ours would come at every turn, and the job would never end
            log.exception("the source of %s could not be expanded", expanding.job_id)
            self._fail(expanding, f"expanding it failed with {type(error).__name__}; the house's log says where")
        return True

    def _next(self) -> Expanding | None:
        moment = time.monotonic()
        waiting = [job_id for job_id, trouble in self._troubles.items() if trouble.until > moment]
        with self._database.read() as session:
            full = {*jobs.beyond_backlog(session, self._config.max_backlog_items)}
            full |= quotas.used_up(session, self._config.max_items_per_day)
            account = expansion.next_account(session, self._account, self._kinds, waiting, full)
            if account is None:
                if not waiting and not full:
                    self._job_of.clear()
                    self._troubles.clear()  # of jobs that were canceled
                return None
            after = self._job_of.get(account, "")
            expanding = expansion.next_source(session, account, after, self._kinds, waiting)
        self._account = account
        if expanding is not None:
            self._job_of[account] = expanding.job_id
        return expanding

    def _step(self, expanding: Expanding) -> None:
        try:
            step = self._read(expanding)
        except (StorageUnavailable, OSError) as error:
            self._put_off(expanding, error)
            return
        with self._database.write() as session:
            expansion.advance(session, expanding, step, self._config.chunk_items)
        if self._troubles.pop(expanding.job_id, None):
            log.info("the source of %s can be read again", expanding.job_id)

    def _put_off(self, expanding: Expanding, error: Exception) -> None:
        """Let a job wait, longer each time, while the others go on.

        Raises SourceFailed after GIVE_UP_SECONDS of nothing else, for a prefix: what is stored here was accepted, and
        is waited for as long as it takes.
        """
        moment = time.monotonic()
        trouble = self._troubles.get(expanding.job_id)
        if trouble is None:
            log.warning("the source of %s waits: %s: %s", expanding.job_id, type(error).__name__, error)
            trouble = self._troubles[expanding.job_id] = _Trouble(moment, self._config.relay_seconds / 2, 0.0)
        if expanding.kind in LISTED and moment - trouble.since >= GIVE_UP_SECONDS:
            raise SourceFailed(f"tried for {GIVE_UP_SECONDS / 3600:g} h in vain, and given up: {error}") from error
        trouble.wait = min(2 * trouble.wait, LONGEST_WAIT)
        trouble.until = moment + trouble.wait

    def _fail(self, expanding: Expanding, detail: str) -> None:
        self._troubles.pop(expanding.job_id, None)
        with self._database.write() as session:
            if expansion.fail(session, expanding, detail):
                log.warning(
                    "the source of %s cannot be read after %d: %s", expanding.job_id, expanding.position, detail
                )

    def _read(self, expanding: Expanding) -> Step:
        """Read a step of a source; shorter than others where the source ends or is over its limit, and when we stop."""
        found: list[Found] = []
        rejected: list[Rejected] = []
        position, cursor, most = expanding.position, expanding.cursor, self._config.max_source_items
        with closing(self._entries(expanding)) as entries:
            for entry in entries:
                position += 1
                if position > most:
                    detail = f"a source holds at most {most} items: the rest of it was not read"
                    rejected.append(Rejected(position, "too_many_items", detail))
                    break
                cursor = entry.cursor
                if isinstance(entry.found, NewItem):
                    found.append(Found(position, entry.found))
                elif entry.found is not None:
                    rejected.append(Rejected(position, *entry.found))
                if self.stopping.is_set() or position - expanding.position == STEP[expanding.kind]:
                    return Step(found, rejected, position, cursor, last=False)
        return Step(found, rejected, position, cursor, last=True)

    def _entries(self, expanding: Expanding) -> Generator[Entry]:
        match expanding.kind:
            case SourceKind.MANIFEST:
                return self._lines(expanding)
            case SourceKind.ZIP:
                return self._members(expanding)
            case SourceKind.PREFIX:
                return self._keys(expanding)

    def _lines(self, expanding: Expanding) -> Generator[Entry]:
        with self._blobs.open(expanding.blob or "") as stream:
            for offset, found in read_lines(stream, int(expanding.cursor or 0)):
                yield Entry(str(offset), found)

    def _members(self, expanding: Expanding) -> Generator[Entry]:
        with self._blobs.open(expanding.blob or "") as stream:
            archive = Archive(stream)
            members = archive.members(int(expanding.cursor) if expanding.cursor else None)
            while batch := list(islice(members, STEP[SourceKind.ZIP])):  # entries lie together, away from the members
                for member in batch:
                    yield Entry(str(member.next), self._unpack(archive, member) if member.is_file else None)

    def _unpack(self, archive: Archive, member: Member) -> NewItem | Fault:
        """Store a member, as the item that it becomes: its name is what the client calls it, and no path."""
        limit = self._config.max_image_bytes
        if member.unpacked > limit:
            return "too_large", f"the member {member.name[:200]!r} unpacks to more than the limit of {limit} bytes"
        try:
            with archive.open(member) as stream:
                return NewItem(blob=self._blobs.put(stream, limit), custom_id=member.name)
        except DamagedMember as error:
            return "damaged_member", f"the member {member.name[:200]!r} was left out: {error}"

    def _keys(self, expanding: Expanding) -> Generator[Entry]:
        place = buckets.parse_s3_prefix(expanding.url or "")
        with self._database.read() as session:
            if not buckets.allowed(session, expanding.account_id, *place):
                raise SourceFailed(buckets.forbidden(place))
        for key, size in buckets.list_keys(self._config, *place, expanding.cursor):
            yield Entry(key, None if key.endswith("/") and not size else _object(place.bucket, key))


def _object(bucket: str, key: str) -> NewItem | Fault:
    url = buckets.Place(bucket, key).url
    try:
        buckets.parse_s3_url(url)
    except InvalidSubmission as error:
        return "invalid_item", str(error)
    return NewItem(url=url, custom_id=key)
