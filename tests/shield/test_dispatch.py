import pytest
from sqlalchemy import select, update

from shield import dispatch, jobs
from shield.db import Database, now
from shield.dispatch import Lease
from shield.models import Chunk, Item, Job
from shield.states import ChunkState, ItemState, JobState
from tests.shield.work import check_invariants, failed, scanned, submit, take


def expire(database: Database, held: Lease) -> None:
    """Let the lease's time pass."""
    with database.write() as session:
        session.execute(update(Chunk).where(Chunk.id == held.chunk_id).values(lease_until=now(session)))


def die(database: Database) -> Lease:
    """A worker takes the next chunk and dies."""
    with database.write() as session:
        held = take(session)
    expire(database, held)
    with database.write() as session:
        assert dispatch.sweep(session) == 1
    return held


def test_a_chunk_is_leased_once(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, items=3)
        held = take(session)
        assert dispatch.lease(session, held.chunk_id, 60) is None
        assert dispatch.lease_next(session, 60) is None
        assert [item.blob for item in held.items] == [f"{n:064x}" for n in range(3)]


def test_the_last_item_ends_the_job_once(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=5, chunk_items=3)
        first, second = take(session), take(session)
        dispatch.record(session, first, [scanned(item.id) for item in first.items])
        session.refresh(job)
        assert job.state == JobState.RUNNING
        dispatch.record(session, second, [failed(item.id) for item in second.items])
        session.refresh(job)
        assert (job.state, job.done, job.suspect, job.failed) == (JobState.ENDED, 3, 3, 2)
        assert {chunk.state for chunk in session.scalars(select(Chunk))} == {ChunkState.DONE}
        check_invariants(session)


def test_recording_twice_changes_no_row(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=4, chunk_items=4)
        held = take(session)
        assert dispatch.record(session, held, [scanned(held.items[0].id)]) == 1
        assert dispatch.record(session, held, [failed(held.items[0].id)]) == 0
        session.refresh(job)
        assert (job.done, job.failed) == (1, 0)
        check_invariants(session)


@pytest.mark.parametrize("swept", [False, True])
def test_a_worker_past_its_lease_writes_nothing(database: Database, account_id: str, *, swept: bool) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=2)
        held = take(session)
    expire(database, held)
    with database.write() as session:
        if swept:
            dispatch.sweep(session)
        assert dispatch.record(session, held, [scanned(item.id) for item in held.items]) == 0
        assert dispatch.renew(session, [held], 60) == set()
        session.refresh(session.get_one(Job, job.id))
        assert session.get_one(Job, job.id).done == 0
        check_invariants(session)


def test_renewing_keeps_the_sweep_away(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, items=2)
        held = take(session, seconds=0.05)
        assert dispatch.renew(session, [held], 60) == {held.chunk_id}
    with database.write() as session:
        assert dispatch.sweep(session) == 0


def test_a_clean_release_blames_nobody(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, items=2)
        held = take(session)
        dispatch.release(session, held)
    with database.write() as session:
        again = take(session)
        assert again.chunk_id == held.chunk_id
        assert not again.alone
        assert session.get_one(Chunk, held.chunk_id).deaths == 0


def test_a_death_sends_the_chunk_back_to_be_scanned_alone(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, items=2, chunk_items=2)
    held = die(database)
    with database.write() as session:
        assert dispatch.lease_next(session, 60, company=True) is None
        again = take(session)
        assert (again.chunk_id, again.alone) == (held.chunk_id, True)
        assert dispatch.record(session, again, [scanned(item.id) for item in again.items]) == 2
        check_invariants(session)


def test_two_deaths_split_a_chunk_and_three_on_a_single_are_poison(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=3, chunk_items=3)
    die(database)
    chunk = die(database)
    with database.write() as session:
        assert session.get_one(Chunk, chunk.chunk_id).state == ChunkState.SPLIT
        singles = session.scalars(select(Chunk).where(Chunk.state == ChunkState.READY)).all()
        assert [single.size for single in singles] == [1, 1, 1]
        assert all(single.alone for single in singles)
    for _ in range(dispatch.POISON_AT):
        die(database)  # the same first single each time: it is the oldest
    with database.write() as session:
        while held := dispatch.lease_next(session, 60):
            dispatch.record(session, held, [scanned(item.id) for item in held.items])
        session.refresh(session.get_one(Job, job.id))
        items = session.scalars(select(Item).order_by(Item.ordinal)).all()
        assert [item.state for item in items] == [ItemState.FAILED, ItemState.DONE, ItemState.DONE]
        assert items[0].error_code == "poison"
        assert session.get_one(Job, job.id).state == JobState.ENDED
        check_invariants(session)


def test_a_lease_lost_in_a_canceled_job_cancels_its_items(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=5, chunk_items=3)
        held = take(session)
    jobs.cancel(database, account_id, job.id)
    expire(database, held)
    with database.write() as session:
        dispatch.sweep(session)
    with database.read() as session:
        ended = jobs.get(session, account_id, job.id)
        assert (ended.state, ended.canceled) == (JobState.ENDED, 5)
        check_invariants(session)


def test_the_interactive_lane_goes_first(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, items=5, chunk_items=4)
        small = submit(session, account_id, items=1, chunk_items=4)
        held = take(session)
        assert held.items[0].id == jobs.items(session, small, 1)[0].id
