"""Many at once: each chunk is leased once, and races of record, cancel and sweep leave the books in order."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sqlalchemy import update

from shield import dispatch, jobs
from shield.db import Database, now
from shield.dispatch import Lease
from shield.models import Chunk, Job
from tests.shield.work import check_invariants, scanned, submit, take

THREADS = 8
ROUNDS = 15


def at_once(*steps: Callable[[], object]) -> list[object]:
    """Take these steps in threads that begin together; what they returned. Raises what any of them raised."""
    barrier = threading.Barrier(len(steps))

    def run(step: Callable[[], object]) -> object:
        barrier.wait()
        return step()

    with ThreadPoolExecutor(len(steps)) as threads:
        return list(threads.map(run, steps))


def work(database: Database) -> list[str]:
    """Lease and record until nothing is ready; the chunks that were leased."""
    leased: list[str] = []
    while True:
        with database.write() as session:
            held = dispatch.lease_next(session, 60)
        if held is None:
            return leased
        leased.append(held.chunk_id)
        with database.write() as session:
            assert dispatch.record(session, held, [scanned(item.id) for item in held.items]) == len(held.items)


def test_of_many_workers_each_chunk_goes_to_one(database: Database, account_id: str) -> None:
    with database.write() as session:
        submitted = [submit(session, account_id, items=60, chunk_items=2), submit(session, account_id, items=1)]
    leased = at_once(*(lambda: work(database) for _ in range(THREADS)))
    chunks = [chunk for each in leased if isinstance(each, list) for chunk in each]
    assert len(chunks) == len(set(chunks)) == 31
    with database.read() as session:
        check_invariants(session)
        assert {session.get_one(Job, job.id).state for job in submitted} == {"ended"}


def test_of_many_that_want_the_same_chunk_one_gets_it(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, items=3)
        held = take(session)
        dispatch.release(session, held)

    def ask() -> Lease | None:
        with database.write() as session:
            return dispatch.lease(session, held.chunk_id, 60)

    got = [lease for lease in at_once(*[ask] * THREADS) if isinstance(lease, Lease)]
    assert [len(lease.items) for lease in got] == [3]


class Race:
    """A job with leased chunks, some of which ran out, and what may happen to it, all at the same time."""

    def __init__(self, database: Database, account_id: str, chance: random.Random) -> None:
        self._database = database
        self._account_id = account_id
        with database.write() as session:
            self._job = submit(session, account_id, items=12, chunk_items=2)
            held = [take(session) for _ in range(4)]
        with database.write() as session:
            for lease in held:
                if chance.random() < 0.5:
                    session.execute(
                        update(Chunk).where(Chunk.id == lease.chunk_id).values(lease_until=now(session), deaths=1)
                    )
        steps: list[Callable[[], None]] = [partial(self._record, lease) for lease in held[:3]]
        steps += [partial(self._release, held[3]), self._cancel, self._sweep, self._sweep, self._end_waiting]
        steps.append(self._work)
        chance.shuffle(steps)
        self.steps = steps

    def _record(self, held: Lease) -> None:
        for item in held.items:
            with self._database.write() as session:
                dispatch.record(session, held, [scanned(item.id)])

    def _release(self, held: Lease) -> None:
        with self._database.write() as session:
            dispatch.release(session, held)

    def _cancel(self) -> None:
        jobs.cancel(self._database, self._account_id, self._job.id)

    def _sweep(self) -> None:
        with self._database.write() as session:
            dispatch.sweep(session)

    def _end_waiting(self) -> None:
        with self._database.write() as session:
            for job_id in jobs.canceling(session):
                jobs.close_ready(session, job_id)
                jobs.cancel_waiting(session, job_id, 100)

    def _work(self) -> None:
        work(self._database)

    def settle(self) -> str:
        """What the house and a worker do in time; the state of the job then."""
        with self._database.write() as session:
            session.execute(update(Chunk).where(Chunk.state == "leased").values(lease_until=now(session)))
        self._sweep()
        self._end_waiting()
        work(self._database)
        with self._database.read() as session:
            return session.get_one(Job, self._job.id).state


def test_races_of_record_release_cancel_and_sweep_keep_the_books(database: Database, account_id: str) -> None:
    chance = random.Random(1)
    for _ in range(ROUNDS):
        race = Race(database, account_id, chance)
        at_once(*race.steps)
        with database.read() as session:
            check_invariants(session)
        assert race.settle() == "ended"
    with database.read() as session:
        check_invariants(session)
