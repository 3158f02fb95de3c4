"""Webhooks against receivers that fail: `python -m benchmarks.webhook_storm [--events 10000] [--databases sqlite]`.

Items of four accounts are flagged, and told to a receiver that answers 30 % with 5xx, hangs on 5 % and resets 5 % once
it has read them. Before that another account's events are timed: alone, then beside an account with as many dead
endpoints as it may have, and beside many accounts whose receivers are dead. Prints what was seen and its bars.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from benchmarks.postgres import serving
from benchmarks.receiver import OK, Got, Reply, receiving
from shield import accounts, dispatch, endpoints, events, jobs, policies
from shield.db import Database
from shield.models import Attempt, Delivery, Event
from shield.outcomes import Scanned
from shield.policy import Judgement
from shield.secret import Seal, secret_key
from shield.settings import Settings
from shield.states import EventType, Verdict
from shield.supervisor import migrate
from training.bars import Bar
from worker.deliver import Deliverer, sweep_deliveries
from worker.house import Beside, Chore

DATABASES = ["sqlite", "postgresql"]
SEED = 6
RETRY_SECONDS = [0.2, 0.5, 1.0, 2.0]
TIMEOUT_SECONDS = 1.0
STORM_ACCOUNTS = 4
DEAD_ACCOUNTS, DEAD_EVENTS = 16, 200  # and the events of each
TIMED, TIMED_PAUSE = 200, 0.05  # events of the other account, and seconds between them
CHUNK = 64
WEIGHTS = "a" * 64
POLICY = "default/storm"


class Installation:
    """A database, an account for each receiver, and a deliverer as the house runs it."""

    def __init__(self, home: Path, database_url: str) -> None:
        self.config = Settings(
            home=home,
            database_url=database_url,
            egress_allow_loopback=True,
            webhook_retry_seconds=RETRY_SECONDS,
            webhook_timeout_seconds=TIMEOUT_SECONDS,
            webhook_poll_seconds=0.05,
            _env_file=None,
        )
        migrate(self.config.database)
        self.database = Database(self.config.database)
        self._seal = Seal(secret_key(self.config))
        with self.database.write() as session:
            policies.register_weights(session, WEIGHTS, "storm", "1", 0.8, 0.5)

    def subscribe(self, name: str, url: str, count: int = 1) -> tuple[str, str, str]:
        """A new account with so many endpoints; of the last one: account, endpoint, secret."""
        with self.database.write() as session:
            account = accounts.create_account(session, name).id
            for _ in range(count):
                made, secret = endpoints.create(session, account, self._seal, url, [EventType.ITEM_FLAGGED])
        return account, made.id, secret

    @contextmanager
    def without(self, subscribed: tuple[str, str, str]) -> Iterator[str]:
        """The account of this endpoint; at the end of the block its endpoints are deleted."""
        account, _, _ = subscribed
        yield account
        with self.database.write() as session:
            for endpoint in endpoints.of_account(session, account):
                endpoints.delete(session, account, endpoint.id)

    def flag(self, account: str, count: int) -> None:
        """Have so many items of an account flagged, by the way that every result goes."""
        with self.database.write() as session:
            new = [jobs.NewItem(blob="b" * 64, custom_id=f"photo {n}") for n in range(count)]
            jobs.submit(session, account, new, CHUNK)
        while True:
            with self.database.write() as session:
                held = dispatch.lease_next(session, 60.0)
                if held is None:
                    return
                dispatch.record(session, held, [_fake(item.id) for item in held.items])

    def test(self, account: str, endpoint: str) -> str:
        """Owe an endpoint one event; its id."""
        with self.database.write() as session:
            return events.test(session, endpoints.get(session, account, endpoint)).event_id

    def count(self, *accounts: str) -> Counter[str]:
        """Deliveries of these accounts, by state."""
        query = select(Delivery.state, func.count()).where(Delivery.account_id.in_(accounts)).group_by(Delivery.state)
        with self.database.read() as session:
            return Counter({row.state: row[1] for row in session.execute(query)})

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Deliver meanwhile, in threads of this process, as the house does."""
        deliverer = Deliverer(self.database, self.config)
        poll = self.config.webhook_poll_seconds
        loops = (
            Beside(Chore("deliver", 0.0, deliverer.turn), poll, deliverer.stopping),
            Beside(Chore("sweep", 1.0, lambda: sweep_deliveries(self.database, self.config)), 1.0),
        )
        for loop in loops:
            loop.start()
            loop.lead(True)
        try:
            yield
        finally:
            for loop in loops:
                loop.tell_to_stop()
            for loop in loops:
                loop.join(time.monotonic() + 10.0)


def _fake(item_id: str) -> Scanned:
    judgement = Judgement(Verdict.FAKE, ("1_of_1_faces_reach_fake",), 0.9)
    return Scanned(item_id, judgement, (), 100, 80, "JPEG", "c" * 64, None, WEIGHTS, POLICY)


class Weather:
    """What the storm's receiver answers: drawn with a seed, whatever asks, once the official verifier has looked."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)
        self._lock = threading.Lock()
        self.secrets: dict[str, str] = {}  # by path
        self.drawn: Counter[str] = Counter()
        self.answered: set[str] = set()  # ids of events that got a 2xx
        self.forged = 0

    def reply(self, got: Got) -> Reply:
        """Look at what arrived, and draw what to answer."""
        with self._lock:
            draw = self._random.random()
            kind = "5xx" if draw < 0.30 else "hang" if draw < 0.35 else "reset" if draw < 0.40 else "2xx"
            self.drawn[kind] += 1
            if kind == "2xx":
                self.answered.add(got.id)
            try:
                Webhook(self.secrets[got.path]).verify(got.body, got.headers)
            except WebhookVerificationError:
                self.forged += 1
        replies = {"5xx": Reply(503), "hang": Reply(hang_seconds=2 * TIMEOUT_SECONDS), "reset": Reply(reset=True)}
        return replies.get(kind, OK)


def timed(place: Installation, account: str, endpoint: str, arrived: dict[str, float]) -> list[float]:
    """Milliseconds from the commit of each event of the other account to its arrival, the shortest first."""
    sent: dict[str, float] = {}
    for _ in range(TIMED):
        began = time.monotonic()
        sent[place.test(account, endpoint)] = began
        time.sleep(TIMED_PAUSE)
    deadline = time.monotonic() + 60.0
    while not sent.keys() <= arrived.keys() and time.monotonic() < deadline:
        time.sleep(0.05)
    return sorted(1000 * (arrived.get(event, deadline) - began) for event, began in sent.items())


def p95(latencies: Sequence[float]) -> float:
    """The 95th percentile of sorted figures."""
    return latencies[int(0.95 * (len(latencies) - 1))]


def neighbours(place: Installation) -> dict[str, list[float]]:
    """How long the other account's events take alone, and beside those whose receivers hang."""
    arrived: dict[str, float] = {}

    def reply(got: Got) -> Reply:
        if got.path == "/dead":
            return Reply(hang_seconds=2 * TIMEOUT_SECONDS)
        arrived.setdefault(got.id, got.at)
        return OK

    with receiving(reply) as receiver, place.delivering():
        account, endpoint, _ = place.subscribe("other", f"{receiver.url}/alive")
        found = {"alone": timed(place, account, endpoint, arrived)}
        dead = f"{receiver.url}/dead"
        with place.without(place.subscribe("dead", dead, endpoints.MOST)) as owner:
            place.flag(owner, DEAD_EVENTS)
            found["beside a dead account"] = timed(place, account, endpoint, arrived)
        with ExitStack() as stack:
            for number in range(DEAD_ACCOUNTS):
                owner = stack.enter_context(place.without(place.subscribe(f"dead {number}", dead)))
                place.flag(owner, DEAD_EVENTS)
            found["beside many dead accounts"] = timed(place, account, endpoint, arrived)
    return found


def storm(place: Installation, count: int) -> tuple[dict[str, Any], list[Bar]]:
    """Tell so many events to the receiver that fails; what was seen and its bars."""
    weather = Weather()
    with receiving(weather.reply) as receiver, place.delivering():
        told = [place.subscribe(f"storm {n}", f"{receiver.url}/{n}") for n in range(STORM_ACCOUNTS)]
        weather.secrets = {f"/{n}": secret for n, (_, _, secret) in enumerate(told)}
        owners = [account for account, _, _ in told]
        began = time.monotonic()
        for account in owners:
            place.flag(account, count // STORM_ACCOUNTS)
        flagged = time.monotonic() - began
        while open_ones := sum(place.count(*owners)[state] for state in ("pending", "sending", "waiting")):
            sys.stderr.write(f"\r{open_ones} owed after {time.monotonic() - began:.0f} s   ")
            sys.stderr.flush()
            time.sleep(0.2)
        took = time.monotonic() - began
        sys.stderr.write("\n")
        got = list(receiver.got)
    with place.database.read() as session:
        owed = session.execute(
            select(Delivery.event_id, Delivery.state, Event.sequence, Event.account_id)
            .join(Event, Event.id == Delivery.event_id)
            .where(Delivery.account_id.in_(owners))
        ).all()
        written = session.scalar(select(func.count()).where(Event.type == "item.flagged", Event.account_id.in_(owners)))
        tries = session.scalar(select(func.count()).where(Attempt.account_id.in_(owners)))
    states = Counter(row.state for row in owed)
    ids: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for one in got:
        ids[one.path, json.loads(one.body)["data"]["sequence"]].add(one.id)
    known = {row.event_id for row in owed}
    delivered = {row.event_id for row in owed if row.state == "delivered"}
    record = {
        "events": count,
        "database": place.database.engine.dialect.name,
        "seconds": {"to flag": round(flagged, 1), "to the last delivery": round(took, 1)},
        "deliveries": dict(states),
        "tries": tries,
        "requests received": len(got),
        "answered": dict(weather.drawn),
    }
    bars = [
        Bar("events_not_delivered_nor_exhausted", count - states["delivered"] - states["exhausted"], 0, at_most=True),
        Bar("events_without_a_row", abs(count - (written or 0)), 0, at_most=True),
        Bar("events_not_owed_once", abs(count - len(known)) + len(owed) - len(known), 0, at_most=True),
        Bar("delivered_but_never_answered_2xx", len(delivered - weather.answered), 0, at_most=True),
        Bar("requests_without_a_row", sum(one.id not in known for one in got), 0, at_most=True),
        Bar("most_webhook_ids_of_an_event", max(len(found) for found in ids.values()), 1, at_most=True),
        Bar("requests_not_verified", weather.forged, 0, at_most=True),
        Bar("delivered_share", len(delivered) / count, 0.97, aim=0.98),
    ]
    return record, bars


def run(count: int, database_url: str = "") -> tuple[dict[str, Any], list[Bar]]:
    """Do it all; the record and its bars."""
    with tempfile.TemporaryDirectory(prefix="storm-") as home:
        place = Installation(Path(home), database_url)
        found = neighbours(place)
        record, bars = storm(place, count)
        place.database.close()
    record["other account, ms"] = {
        name: {"p50": round(figures[len(figures) // 2], 1), "p95": round(p95(figures), 1), "max": round(figures[-1], 1)}
        for name, figures in found.items()
    }
    alone = p95(found.pop("alone"))
    for name, figures in found.items():
        ratio = p95(figures) / alone
        bars.append(Bar(f"p95_{name.replace(' ', '_')}_over_alone", ratio, 2.0, aim=1.2, at_most=True))
    return record, bars


def main() -> int:
    """Run the command; 1 when a bar is not held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.webhook_storm", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--out", type=Path, help="where the record goes as JSON")
    args = parser.parse_args()
    records, held = [], True
    for database in args.databases:
        with serving() if database == "postgresql" else nullcontext() as server:
            record, bars = run(args.events, server.url if server else "")
        records.append(record | {"bars": {bar.name: bar.value for bar in bars}})
        print(json.dumps(record, indent=1))
        print("\n".join(line for bar in bars for line in bar.lines()), flush=True)
        held = held and all(bar.holds for bar in bars)
    if args.out:
        args.out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
