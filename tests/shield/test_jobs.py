import pytest
from sqlalchemy import select

from shield import accounts, dispatch, jobs
from shield.db import Database
from shield.errors import InvalidSubmission, NotFound
from shield.models import Chunk, Item, Outbox
from shield.states import ItemState, JobState, Verdict
from tests.shield.work import check_invariants, scanned, submit, take


def test_a_submission_writes_job_chunks_items_and_outbox_rows_together(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=10, chunk_items=4)
    with database.read() as session:
        assert [chunk.size for chunk in session.scalars(select(Chunk).order_by(Chunk.id))] == [4, 4, 2]
        assert len(session.scalars(select(Outbox)).all()) == 3
        assert [item.custom_id for item in jobs.items(session, job, 100)] == [f"photo {n}" for n in range(10)]
        assert jobs.get(session, account_id, job.id).state == JobState.QUEUED
        check_invariants(session)


def test_a_submission_that_fails_half_way_leaves_nothing(database: Database, account_id: str) -> None:
    def fails_half_way() -> None:
        with database.write() as session:
            submit(session, account_id, items=3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails_half_way()
    with database.read() as session:
        assert session.scalars(select(Item)).all() == []
        assert jobs.newest(session, account_id, 10) == []


def test_a_job_without_items_is_refused(database: Database, account_id: str) -> None:
    with pytest.raises(InvalidSubmission) as refused, database.write() as session:
        jobs.submit(session, account_id, [], 4)
    assert refused.value.pointer == "/items"


def test_another_accounts_job_is_not_found(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=1)
        other = accounts.create_account(session, "other").id
        with pytest.raises(NotFound) as foreign:
            jobs.get(session, other, job.id)
        with pytest.raises(NotFound) as unknown:
            jobs.get(session, other, "job_unknown")
        with pytest.raises(NotFound):
            jobs.item(session, other, jobs.items(session, job, 1)[0].id)
    assert str(foreign.value).replace(job.id, "ID") == str(unknown.value).replace("job_unknown", "ID")


def test_jobs_and_items_are_paged_by_the_last_id_seen(database: Database, account_id: str) -> None:
    with database.write() as session:
        made = [submit(session, account_id, items=5).id for _ in range(3)]
        first = jobs.newest(session, account_id, 2)
        rest = jobs.newest(session, account_id, 2, after=first[-1].id)
        assert {job.id for job in [*first, *rest]} == set(made)
        assert [job.id for job in [*first, *rest]] == sorted(made, reverse=True)
        job = first[0]
        page = jobs.items(session, job, 3)
        assert [i.ordinal for i in page] == [0, 1, 2]
        assert [i.ordinal for i in jobs.items(session, job, 3, after=page[-1].id)] == [3, 4]


@pytest.mark.parametrize("after", ["", "itm_", "itm_x_²", "job_1", "itm_" + "0" * 27 + "_" + "9" * 20])
def test_a_cursor_that_is_no_items_id_is_refused(database: Database, account_id: str, after: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=1)
        with pytest.raises(InvalidSubmission, match="is not an item's id"):
            jobs.items(session, job, 3, after=after)


def test_items_are_filtered_by_state_and_verdict(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=5, chunk_items=2)
        held = take(session)
        dispatch.record(
            session, held, [scanned(held.items[0].id, Verdict.FAKE), scanned(held.items[1].id, Verdict.CLEAR)]
        )
        assert len(jobs.items(session, job, 10, state=ItemState.PENDING)) == 3
        assert [i.ordinal for i in jobs.items(session, job, 10, verdict=Verdict.FAKE)] == [0]


def test_results_stream_what_has_ended_while_the_job_runs(
    database: Database, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PAGE", 2)
    with database.write() as session:
        job = submit(session, account_id, items=7, chunk_items=5)
        held = take(session)
        dispatch.record(session, held, [scanned(item.id) for item in held.items])
    found = list(jobs.results(database, job))
    assert [item.ordinal for item in found] == [0, 1, 2, 3, 4]
    assert all(item.faces[0].score == 0.7 and item.weights and item.weights.name == "test" for item in found)


def test_canceling_ends_what_is_not_leased_at_once_and_the_job_with_the_rest(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=10, chunk_items=4)
        held = take(session)
    with database.write() as session:
        assert jobs.cancel(session, account_id, job.id).state == JobState.CANCELING
        assert jobs.get(session, account_id, job.id).canceled == 6
        assert dispatch.lease_next(session, 60, company=False) is None
    with database.write() as session:
        dispatch.record(session, held, [scanned(item.id) for item in held.items])
        ended = jobs.get(session, account_id, job.id)
        session.refresh(ended)
        assert (ended.state, ended.done, ended.canceled) == (JobState.ENDED, 4, 6)
        check_invariants(session)


def test_canceling_a_queued_job_ends_it_and_canceling_twice_changes_nothing(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=3)
        assert jobs.cancel(session, account_id, job.id).state == JobState.ENDED
        ended_at = job.ended_at
        assert jobs.cancel(session, account_id, job.id).ended_at == ended_at
        check_invariants(session)
