"""Delivering: what is owed to webhooks is leased, sent by many threads at a time, and recorded.

One thread speaks to the database, in short transactions between which the others speak to the network. An endpoint and
an account have their share of the threads, and so have all together that fail or are slow, and all that were not tried
yet: whoever is dead or slow delays nobody else.
"""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import IntEnum
from itertools import chain
from queue import Empty, SimpleQueue

from standardwebhooks import Webhook

from shield import deliveries, egress, endpoints
from shield.db import Database
from shield.deliveries import ANSWER_BYTES, LONGEST_WAIT, DueEndpoint, Leased, Schedule, Try
from shield.errors import FetchFailed, SealBroken, StorageUnavailable
from shield.secret import Seal, secret_key
from shield.settings import Settings

log = logging.getLogger(__name__)

THREADS = 64
CAP = 4  # of them, for one endpoint
ACCOUNT_CAP = 8  # of them, for all endpoints of an account together
QUICK_SECONDS = 1.0  # an answer that takes longer is slow
REMEMBERED = 10_000  # endpoints of which is known whether they were quick
MARGIN_SECONDS = 30.0  # that a lease outlives its try: to record it, also while the database is away for a moment
DROPPED = 1000  # deliveries that are dropped in one transaction
STOP_SECONDS = 4.0  # that the tries in hand may take to end


class Standing(IntEnum):
    """How an endpoint is known: those of the same or a worse standing have SHARES of the threads together."""

    QUICK = 0  # its last try was answered 2xx at once
    NEW = 1  # not tried yet by this process
    POOR = 2  # its last try failed or was slow, or one is under way for long


SHARES = {Standing.QUICK: THREADS, Standing.NEW: 3 * THREADS // 4, Standing.POOR: THREADS // 2}


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A try that is being made, and since when (time.monotonic)."""

    delivery: Leased
    began: float = field(default_factory=time.monotonic)


class Deliverer:
    """Delivers, by turns. `stopping` may be set from another thread: no further try is begun then."""

    def __init__(self, database: Database, config: Settings) -> None:
        self._database = database
        self._config = config
        self._schedule = schedule(config)
        self._seal = Seal(secret_key(config))
        self._in_flight: dict[str, UnderWay] = {}  # by the id of the delivery
        self._quick: dict[str, bool] = {}  # whether the last try of an endpoint was; what was tried last comes last
        self._ended: list[Try] = []  # and not recorded yet
        self._last = ""  # the endpoint that was served last
        self._out: SimpleQueue[Leased] = SimpleQueue()
        self._back: SimpleQueue[Try] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.stopping = threading.Event()

    def turn(self) -> int:
        """Record what has ended, begin what there is room for; how many tries are under way. Raises StorageUnavailable.

        While some are, it first waits for one of them to end, no longer than the house looks for webhooks anew.
        """
        self._collect()
        ended = {tried.delivery.id for tried in self._ended}
        running = {name: one for name, one in self._in_flight.items() if name not in ended}
        for tried in self._ended:
            self._learn(tried)
        plan = [] if self.stopping.is_set() else self._plan(list(running.values()))
        if not (plan or ended):
            return len(running)
        leased: list[Leased] = []
        try:
            leased = self._write(plan)
        except StorageUnavailable:
            raise
        except Exception:  # a fault of ours would come at every turn: what ended is left to the sweep, and others go on
            self._in_flight = running
            self._ended = []
            raise
        self._in_flight = running | {one.id: UnderWay(one) for one in leased}
        self._ended = []
        self._send(leased)
        return len(self._in_flight)

    def _write(self, plan: Sequence[tuple[DueEndpoint, int]]) -> list[Leased]:
        """Record what has ended, and lease by this plan: one transaction."""
        with self._database.write() as session:
            if self._ended:
                deliveries.record(session, self._ended, self._schedule)
            for endpoint, _ in plan:
                if endpoint.disabled:
                    deliveries.drop(session, endpoint.id, DROPPED)
            wanted = {endpoint.id: room for endpoint, room in plan if not endpoint.disabled}
            seconds = self._config.webhook_timeout_seconds + MARGIN_SECONDS
            leased = deliveries.lease(session, wanted, seconds)
        self._last = next(reversed(wanted), self._last)
        return leased

    def _collect(self) -> None:
        """Take what has ended; when we stop, wait for all of it, but not for long."""
        wait = self._config.webhook_poll_seconds
        if self._in_flight and not self._ended:
            with suppress(Empty):
                self._ended.append(self._back.get(timeout=wait))
        until = time.monotonic() + STOP_SECONDS
        while len(self._ended) < len(self._in_flight):
            left = until - time.monotonic() if self.stopping.is_set() else 0.0
            try:
                self._ended.append(self._back.get(timeout=left) if left > 0 else self._back.get_nowait())
            except Empty:
                return

    def _plan(self, running: Sequence[UnderWay]) -> list[tuple[DueEndpoint, int]]:
        """Whose turn it is, from the one after the last on, and for how many tries there is room beside these.

        Whoever is known to be quick comes first.
        """
        if len(running) == THREADS:
            return []
        with self._database.read() as session:
            due = deliveries.due_endpoints(session, self._last)
        late = time.monotonic() - QUICK_SECONDS
        stuck = {one.delivery.endpoint_id for one in running if one.began < late}
        standings = {one.id: self._standing(one.id, one.failing, stuck) for one in due}
        held = [self._standing(one.delivery.endpoint_id, one.delivery.failing, stuck) for one in running]
        left = {share: most - sum(one >= share for one in held) for share, most in SHARES.items()}
        busy = Counter(one.delivery.endpoint_id for one in running)
        busy += Counter(one.delivery.account_id for one in running)
        planned = []
        for endpoint in sorted(due, key=lambda one: standings[one.id]):
            shares = [share for share in SHARES if share <= standings[endpoint.id]]
            room = min(CAP - busy[endpoint.id], ACCOUNT_CAP - busy[endpoint.account_id], *(left[one] for one in shares))
            if endpoint.disabled:
                planned.append((endpoint, 0))
            elif room > 0:
                planned.append((endpoint, room))
                busy[endpoint.account_id] += room
                left |= {share: left[share] - room for share in shares}
        return planned

    def _standing(self, endpoint_id: str, failing: bool, stuck: AbstractSet[str]) -> Standing:
        quick = self._quick.get(endpoint_id)
        if failing or endpoint_id in stuck or quick is False:
            return Standing.POOR
        return Standing.NEW if quick is None else Standing.QUICK

    def _learn(self, tried: Try) -> None:
        """Note whether an endpoint is quick."""
        name = tried.delivery.endpoint_id
        self._quick.pop(name, None)
        self._quick[name] = tried.arrived and (tried.latency_ms or 0) <= 1000 * QUICK_SECONDS
        if len(self._quick) > REMEMBERED:
            del self._quick[next(iter(self._quick))]

    def _send(self, leased: Sequence[Leased]) -> None:
        """Hand these to the threads, as many of which are started as were ever needed."""
        for one in leased:
            self._out.put(one)
        while len(self._threads) < len(self._in_flight):
            self._threads.append(threading.Thread(target=self._work, name="webhook", daemon=True))
            self._threads[-1].start()

    def _work(self) -> None:
        while True:
            self._back.put(self._try(self._out.get()))

    def _try(self, delivery: Leased) -> Try:
        """Send it once; whatever goes wrong becomes an answer."""
        began = time.monotonic()
        try:
            answer = self._post(delivery)
            after = retry_after(answer.headers.get("retry-after", ""), datetime.now(UTC))
            text = _readable(answer.body[:ANSWER_BYTES].decode(errors="replace"))
            return Try(delivery, _ms(began), status=answer.status, answer=text, retry_after=after)
        except (FetchFailed, SealBroken) as error:
            return Try(delivery, _ms(began), error=_readable(str(error)))
        except Exception as error:  # the delivery must come back, or its place would never be free again
            log.exception("delivery %s could not be sent", delivery.id)
            return Try(delivery, _ms(began), error=f"sending it failed with {type(error).__name__}; the log says where")

    def _post(self, delivery: Leased) -> egress.Answer:
        body = body_of(delivery)
        opened = (endpoints.opened(self._seal, sealed, delivery.endpoint_id) for sealed in delivery.secrets)
        secrets = list(chain.from_iterable(opened))
        return egress.post(
            delivery.url,
            body.encode(),
            {"Content-Type": "application/json"} | signed(delivery.event_id, body, secrets, datetime.now(UTC)),
            timeout_seconds=self._config.webhook_timeout_seconds,
            limit_bytes=ANSWER_BYTES,
            allow_loopback=self._config.egress_allow_loopback,
        )


def schedule(config: Settings) -> Schedule:
    """The schedule of these settings."""
    return Schedule(config.webhook_retry_seconds, config.webhook_disable_days)


def sweep_deliveries(database: Database, config: Settings) -> int:
    """Take back what a process held that has ended; how many. Raises StorageUnavailable."""
    with database.write() as session:
        return deliveries.sweep(session, schedule(config))


def body_of(delivery: Leased) -> str:
    """The body of an event, the same at every try."""
    told = {
        "type": delivery.type,
        "timestamp": delivery.happened_at.isoformat(),
        "data": {"sequence": delivery.sequence} | delivery.data,
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def signed(event_id: str, body: str, secrets: list[str], moment: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks: a signature by each secret, the newest first."""
    signatures = [Webhook(secret).sign(event_id, moment, body) for secret in secrets]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def retry_after(header: str, moment: datetime) -> timedelta:
    """How long an answer asks to be left alone, by seconds or by a date; not at all where it does not say."""
    with suppress(ValueError, OverflowError):
        if header.isascii() and header.isdigit():
            return timedelta(seconds=min(float(header), LONGEST_WAIT.total_seconds()))
        asked = parsedate_to_datetime(header)
        return max(asked.replace(tzinfo=asked.tzinfo or UTC) - moment, timedelta())
    return timedelta()


def _readable(text: str) -> str:
    """What any database takes: PostgreSQL keeps no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _ms(began: float) -> int:
    return round(1000 * (time.monotonic() - began))
