"""One run: a stack, clients, faults; then quiescence, and every check."""

import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from benchmarks.stack import until
from chaos import history, invariants
from chaos.clients import Client, Quota
from chaos.faults import LIBRARY, Faults
from chaos.fleet import Fleet
from chaos.history import History
from chaos.injector import Injector, deck
from chaos.invariants import Finding
from chaos.receiver import Receiver
from chaos.recovery import Recovery, absences, joined, late_writes, recoveries
from chaos.stack import Plan, Stack, running
from shield.db import Database
from shield.errors import StorageUnavailable

CLIENTS = 3
OUTAGE_SECONDS = 0.5  # without a write, from which on the database counts as away
CHECK_SECONDS = 1.0  # between two looks at what must always hold


@dataclass
class Order:
    """What is asked of a run."""

    plan: Plan
    images: int
    faults: int
    seed: int
    gap: float  # seconds between two faults, in the mean
    patience: float  # seconds after the last fault in which nothing moves until it is given up
    history: Path
    kinds: tuple[str, ...] = ()  # only these faults; all, where there are none


@dataclass
class Result:
    """What came of a run."""

    order: Order
    seconds: float = 0.0
    images: int = 0
    jobs: int = 0
    poison: int = 0
    checks: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    troubles: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    away_seconds: float = 0.0
    load: float = 0.0  # of the machine in the last five minutes, by the chaos itself and by all else
    black_holes: list[float] = field(default_factory=list)

    @property
    def tally(self) -> dict[str, int]:
        """Lost, duplicated, called poison wrongly, and other promises that were broken."""
        return history.tally(self.findings)


class Probe:
    """Writes a row again and again, to know when the database took no write; and looks at what must always hold."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._check)]
        self.outages: list[tuple[float, float]] = []
        self.findings: list[Finding] = []
        self.checks = 0

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(0.1):
            began = max(last, time.monotonic() - 0.1)
            try:
                with self._database.write() as session:
                    session.execute(text("update chaos_probe set n = n + 1"))
            except StorageUnavailable:
                continue  # `last` stays where it was: the outage goes on
            now = time.monotonic()
            if now - last > OUTAGE_SECONDS:
                self.outages.append((min(began, last), now))
            last = now

    def _check(self) -> None:
        pause = CHECK_SECONDS
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                self.findings += invariants.check_always(self._database)
            except StorageUnavailable:
                continue
            self.checks += 1
            pause = max(CHECK_SECONDS, 3 * (time.monotonic() - began))  # it grows with the images


def run(order: Order) -> Result:
    """Do it all."""
    began = time.monotonic()
    result = Result(order)
    drawn = random.Random(order.seed)
    log = History(order.history)
    with running(order.plan, order.history.with_suffix("")) as stack:
        invariants.watch(stack.database)
        probe = Probe(stack.database)
        probe.start()
        enough = threading.Event()
        deck_seconds = max(order.faults * order.gap, 1.0)
        quota = Quota(max(order.images // CLIENTS, 1), deck_seconds, enough)
        clients = [
            Client(f"client-{n}", stack.new_client(f"client-{n}"), log, random.Random(drawn.random()), quota)
            for n in range(CLIENTS)
        ]
        longest = min(60.0, max(2 * order.plan.lease_seconds, deck_seconds / 10))
        faults = Faults(stack, Fleet(stack, drawn), clients, drawn, longest)
        injector = Injector(faults, log, drawn)
        receiver = Receiver(log, drawn.random())
        for client in clients:
            receiver.trust(client.name, client.subscribe(receiver.url(client.name)))
        threads = [threading.Thread(target=client.run, name=client.name) for client in clients]
        try:
            for thread in threads:
                thread.start()
            until(lambda: any(client.sent for client in clients))
            kinds = order.kinds or deck(faults.kinds, order.faults, drawn)
            injector.run(kinds, order.gap, lambda number: _say(order, number, clients))
            enough.set()
            quiet = _wait(order, clients, threads, stack)
        except BaseException:  # an interrupt leaves no client that goes on for ever
            for client in clients:
                client.gave_up = True
            raise
        probe.stop()
        receiver.close()
        if quiet:
            for client in clients:
                client.look_back()
        else:
            probe.findings.append(Finding("I10 all comes to rest", f"nothing moved for {order.patience:g} s"))
        _conclude(result, stack, injector, clients, probe, log)
    log.close()
    result.seconds = time.monotonic() - began
    result.load = os.getloadavg()[1]
    return result


def _wait(order: Order, clients: Sequence[Client], threads: Sequence[threading.Thread], stack: Stack) -> bool:
    """Until every job has ended and nothing is owed: True; or nothing has moved for as long as patience lasts."""
    moved, last = (-1, -1, -1), time.monotonic()
    while time.monotonic() - last < order.patience:
        _say(order, order.faults, clients)
        now = _standing(stack)
        if now is not None and now != moved:
            moved, last = now, time.monotonic()
        submitting = any(thread.is_alive() for thread in threads)
        if not submitting and not sum(client.follow() for client in clients) and moved[0] == 0:
            return True
        time.sleep(0.3)
    for client in clients:
        client.gave_up = True
    for thread in threads:
        thread.join()
    return False


def _standing(stack: Stack) -> tuple[int, int, int] | None:
    """What is owed, how many images have ended, how many leases ran out; None while the database is away."""
    counts = (
        "select (select count(*) from outbox) + (select count(*) from delivery where state <> 'delivered')",
        "select coalesce(sum(done + failed + canceled), 0) from job",
        "select coalesce(sum(deaths), 0) from chunk",
    )
    try:
        with stack.database.read() as session:
            owed, ended, deaths = (session.execute(text(count)).scalar_one() for count in counts)
    except StorageUnavailable:
        return None
    return owed, ended, deaths


def _conclude(
    result: Result, stack: Stack, injector: Injector, clients: Sequence[Client], probe: Probe, log: History
) -> None:
    for client in clients:
        for what, count in client.troubles.items():
            result.troubles[what] = result.troubles.get(what, 0) + count
    rows = history.read_rows(stack.database)
    result.findings = [
        *probe.findings,
        *invariants.check_end(stack.database),
        *history.check(log.events, rows),
        *late_writes(stack.armory.traces()),
    ]
    outcomes = [held for row in rows.values() for many in row.items.values() for held in many]
    result.images, result.jobs = len(outcomes), len(rows)
    result.poison = sum(held.error == "poison" for held in outcomes)
    wall = time.time() - time.monotonic()
    ended = {item: moment.timestamp() - wall for item, moment in invariants.ends(stack.database).items()}
    fleet = injector.faults.fleet
    losses = fleet.deaths_as_losses(stack.keeper.deaths)
    away = _away(stack, fleet, probe)
    result.recoveries = recoveries(stack.armory.traces(), losses, ended, away)
    for recovery in sorted(result.recoveries, key=lambda one: one.seconds):
        log.note(recovered=recovery.chunk, after=recovery.kind, since=recovery.began, seconds=recovery.seconds)
    for line in stack.armory.traces():
        log.note(trace=line)
    for death in stack.keeper.deaths:
        log.note(death=death.name, code=death.code, pid=death.pid, moment=death.moment)
    log.note(away=away, outages=probe.outages)
    result.away_seconds = sum(end - start for start, end in away)
    result.checks, result.faults, result.hits = probe.checks, injector.counts, injector.hits
    result.errors, result.black_holes = injector.errors, injector.faults.black_holes
    result.skipped = _skipped(stack.plan.dialect, stack.disk_is_ours)


def _away(stack: Stack, fleet: Fleet, probe: Probe) -> list[tuple[float, float]]:
    """When nothing could recover: no write in the database, no worker up, or no house."""
    now = time.monotonic()
    came_up = [(line["pid"], line["moment"]) for line in stack.armory.traces() if line["what"] == "up"]
    found = list(probe.outages)
    for role in ("scan", "house"):
        deaths = [(death.pid, death.moment) for death in stack.keeper.deaths if death.name.startswith(role)]
        frozen = [(loss.pid, loss.moment) for loss in fleet.losses if loss.moment]
        living = [stack.keeper.pid(name) for name in stack.keeper.programs if name.startswith(role)]
        of_role = {pid for pid, _ in deaths} | {pid for pid in living if pid}
        ups = [(pid, moment) for pid, moment in (*came_up, *fleet.thawed) if pid in of_role]
        downs = [*deaths, *((pid, moment) for pid, moment in frozen if pid in of_role)]
        found += absences(ups, downs, now)
    return joined(found)


def _skipped(dialect: str, can_fill: bool) -> list[str]:
    """What cannot be broken here, and why."""
    found = []
    if not can_fill:
        found.append("disk full: needs root, to mount a small disk")
    if dialect == "sqlite":
        found.append("clock skewed: on SQLite the clock of leases is the processes' own; it is injected on PostgreSQL")
    elif not LIBRARY.exists():
        found.append("clock skewed: needs Debian's package libfaketime")
    return found


def _say(order: Order, number: int, clients: Sequence[Client]) -> None:
    if sys.stderr.isatty():
        sent = sum(client.sent for client in clients)
        sys.stderr.write(f"\r{order.plan.dialect}: fault {number}/{order.faults}, {sent} images accepted  ")
        sys.stderr.flush()
