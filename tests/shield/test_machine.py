"""Any order of submitting, leasing, recording, dying, canceling and retrying keeps the ledger's promises.

A state machine (hypothesis) takes the steps; after each the invariants hold by SQL and no terminal row has changed. In
the end everything that is ready is scanned, and each job has ended with one result an item.
"""

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text, update

from shield import accounts, dispatch, jobs, policies
from shield.db import Database, now
from shield.dispatch import Lease
from shield.errors import JobRunning, NothingToRetry
from shield.models import Chunk, Item, Job
from shield.outcomes import Outcome
from shield.states import ITEM_TERMINAL, JobState, Verdict
from tests.shield.work import WEIGHTS, check_invariants, failed, scanned

REVIEW = ("case_piece", "decision", "review_case")
TABLES = ("delivery", "event", "outbox", *REVIEW, "face", "item", "chunk", "job", "api_key", "account")
FLAGS = st.lists(st.sampled_from(["clear", "fake", "failed", "left"]), min_size=4, max_size=4)


class Ledger(RuleBasedStateMachine):
    """One account, its jobs, and the leases that workers hold or believe that they hold."""

    database: Database

    @initialize()
    def begin(self) -> None:
        with self.database.write() as session:
            for table in TABLES:
                session.execute(text(f"delete from {table}"))  # noqa: S608 - known names
            self.account_id = accounts.create_account(session, "acme").id
            policies.register_weights(session, WEIGHTS, "test", "1", 0.8, 0.5)
        self.jobs: list[str] = []
        self.leases: list[Lease] = []
        self.terminal: dict[str, tuple[object, ...]] = {}

    @rule(sources=st.lists(st.booleans(), min_size=1, max_size=6), chunk_items=st.integers(1, 3))
    def submit(self, sources: list[bool], chunk_items: int) -> None:
        """Of URLs and of stored images."""
        new = [jobs.NewItem(url="https://a.example/") if url else jobs.NewItem(blob="a" * 64) for url in sources]
        with self.database.write() as session:
            self.jobs.append(jobs.submit(session, self.account_id, new, chunk_items).id)

    @rule(ahead=st.booleans(), company=st.booleans())
    def lease(self, ahead: bool, company: bool) -> None:
        with self.database.write() as session:
            held = dispatch.lease_ahead(session, 60) if ahead else dispatch.lease_next(session, 60, company)
        if held is not None:
            assert held.items
            self.leases.append(held)

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 50))
    def begin_scan(self, which: int) -> None:
        """The scan of what was fetched ahead begins, if its lease still lives."""
        held = self.leases[which % len(self.leases)]
        with self.database.write() as session:
            lives = session.scalars(select(Chunk.lease_token).where(Chunk.id == held.chunk_id)).one() == held.token
            assert dispatch.begin(session, [held]) == ({held.chunk_id} if lives else set())

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 50), flags=FLAGS)
    def record(self, which: int, flags: list[str]) -> None:
        """All or some of a lease, which may be lost, or recorded already."""
        held = self.leases[which % len(self.leases)]
        ends = zip(held.items, flags, strict=False)
        outcomes = [_outcome(item.id, flag) for item, flag in ends if flag != "left"]
        with self.database.write() as session:
            lives = session.scalars(select(Chunk.lease_token).where(Chunk.id == held.chunk_id)).one() == held.token
            moved = dispatch.record(session, held, outcomes)
        assert moved == 0 or lives

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 50))
    def die(self, which: int) -> None:
        """A worker stops renewing, and is swept; it still believes in its lease."""
        held = self.leases[which % len(self.leases)]
        with self.database.write() as session:
            session.execute(update(Chunk).where(Chunk.lease_token == held.token).values(lease_until=now(session)))
        with self.database.write() as session:
            dispatch.sweep(session)

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 50), ahead=st.booleans(), flags=FLAGS)
    def wake_up_late(self, which: int, ahead: bool, flags: list[str]) -> None:
        """A worker is swept, another goes on, and the first one writes what it had."""
        self.die(which)
        self.lease(ahead, company=False)
        self.record(which, flags)

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 50))
    def release(self, which: int) -> None:
        with self.database.write() as session:
            dispatch.release(session, self.leases[which % len(self.leases)])

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 50))
    def cancel(self, which: int) -> None:
        jobs.cancel(self.database, self.account_id, self.jobs[which % len(self.jobs)])

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 50), chunk_items=st.integers(1, 3))
    def retry(self, which: int, chunk_items: int) -> None:
        with self.database.write() as session:
            try:
                made = jobs.retry(session, self.account_id, self.jobs[which % len(self.jobs)], chunk_items)
            except (JobRunning, NothingToRetry):
                return
            self.jobs.append(made.id)

    @invariant()
    def promises_are_kept(self) -> None:
        with self.database.read() as session:
            check_invariants(session)
            found: dict[str, tuple[object, ...]] = {
                row.id: tuple(row)
                for row in session.execute(
                    select(Item.id, Item.state, Item.verdict, Item.error_code, Item.ended_at).where(
                        Item.state.in_(ITEM_TERMINAL)
                    )
                )
            }
        for item_id, row in self.terminal.items():
            assert found[item_id] == row
        self.terminal = found

    def teardown(self) -> None:
        """Workers go on: those that hold a lease die, and all that is ready is scanned."""
        if not hasattr(self, "jobs"):
            return
        with self.database.write() as session:
            session.execute(update(Chunk).where(Chunk.lease_until.is_not(None)).values(lease_until=now(session)))
        while True:
            with self.database.write() as session:
                dispatch.sweep(session)
                held = dispatch.lease_next(session, 60) or dispatch.lease_ahead(session, 60)
                if held is None:
                    break
                dispatch.record(session, held, [_outcome(item.id, "clear") for item in held.items])
        with self.database.read() as session:
            check_invariants(session)
            assert {row.state for row in session.scalars(select(Job))} <= {JobState.ENDED}


def _outcome(item_id: str, flag: str) -> Outcome:
    return failed(item_id) if flag == "failed" else scanned(item_id, Verdict(flag))


def test_any_order_of_steps_keeps_the_promises(database: Database) -> None:
    machine = type("OnThis", (Ledger,), {"database": database})
    steps = settings(
        max_examples=25,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],  # a failure is told as it was found: to look for a shorter one takes minutes
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=steps)
