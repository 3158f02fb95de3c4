import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from shield import accounts, dispatch, expansion, jobs, outbox
from shield.db import Database
from shield.errors import BacklogFull, InvalidSubmission, JobRunning, NotFound, NothingToRetry
from shield.models import Chunk, Item, Job, Outbox
from shield.states import ItemState, JobState, SourceKind, Verdict
from tests.shield.work import check_invariants, failed, scanned, submit, take


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
        with pytest.raises(InvalidSubmission, match="is no item of"):
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


def reread(database: Database, job: Job) -> Job:
    with database.read() as session:
        return session.get_one(Job, job.id)


def test_canceling_ends_what_is_not_leased_at_once_and_the_job_with_the_rest(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=10, chunk_items=4)
        held = take(session)
    canceled = jobs.cancel(database, account_id, job.id)
    assert (canceled.state, canceled.canceled) == (JobState.CANCELING, 6)
    with database.write() as session:
        assert dispatch.lease_next(session, 60) is None
        dispatch.record(session, held, [scanned(item.id) for item in held.items])
        check_invariants(session)
    ended = reread(database, job)
    assert (ended.state, ended.done, ended.canceled) == (JobState.ENDED, 4, 6)


def test_canceling_a_queued_job_ends_it_and_canceling_twice_changes_nothing(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=3)
    first = jobs.cancel(database, account_id, job.id)
    assert (first.state, first.canceled) == (JobState.ENDED, 3)
    assert jobs.cancel(database, account_id, job.id).ended_at == first.ended_at
    with database.read() as session:
        check_invariants(session)


def test_canceling_owes_no_message_any_more_about_this_job_alone(database: Database, account_id: str) -> None:
    with database.write() as session:
        job, other = submit(session, account_id, items=9), submit(session, account_id, items=5)
    jobs.cancel(database, account_id, job.id)
    with database.read() as session:
        assert outbox.owed_for(session, job.id, 10) == []
        assert len(outbox.owed_for(session, other.id, 10)) == 2


def test_canceling_many_items_ends_a_part_at_once_and_the_house_the_rest(
    database: Database, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "CANCELED_AT_ONCE", 5)
    with database.write() as session:
        job = submit(session, account_id, items=20, chunk_items=4)
        held = take(session)
    first = jobs.cancel(database, account_id, job.id)
    assert (first.state, first.canceled, first.pending) == (JobState.CANCELING, 5, 15)
    with database.write() as session:
        assert dispatch.lease_next(session, 60) is None
        assert jobs.canceling(session) == [job.id]
        assert [jobs.cancel_waiting(session, job.id, 6) for _ in range(3)] == [6, 5, 0]
        check_invariants(session)
        dispatch.record(session, held, [scanned(item.id) for item in held.items])
        check_invariants(session)
        assert jobs.canceling(session) == []
    ended = reread(database, job)
    assert (ended.state, ended.done, ended.canceled) == (JobState.ENDED, 4, 16)


def test_items_of_a_chunk_that_is_ready_are_not_canceled_before_it_is_closed(
    database: Database, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(jobs, "close_ready", lambda *_: 1 / 0)  # a request that dies half-way
        with database.write() as session:
            job = submit(session, account_id, items=6, chunk_items=4)
        with pytest.raises(ZeroDivisionError):
            jobs.cancel(database, account_id, job.id)
    with database.write() as session:
        assert jobs.canceling(session) == [job.id]
        assert jobs.cancel_waiting(session, job.id, 10) == 0
        held = take(session)  # it can still be leased, and finishes
        jobs.close_ready(session, job.id)
        assert jobs.cancel_waiting(session, job.id, 10) == 2
        dispatch.record(session, held, [scanned(item.id) for item in held.items])
        check_invariants(session)
    ended = reread(database, job)
    assert (ended.state, ended.done, ended.canceled) == (JobState.ENDED, 4, 2)


def test_canceling_a_job_that_expands_ends_what_is_there_and_stops_the_expansion(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        job = expansion.submit(session, account_id, SourceKind.MANIFEST, blob="d" * 64)
        expanding = expansion.next_source(session, account_id, "")
        assert expanding is not None
        step = expansion.Step([expansion.Found(1, jobs.NewItem(blob="e" * 64))], [], 1, "10", last=False)
        assert expansion.advance(session, expanding, step, 4)
        further = expansion.next_source(session, account_id, "")
        assert further is not None
    canceled = jobs.cancel(database, account_id, job.id)
    assert (canceled.state, canceled.total, canceled.canceled) == (JobState.ENDED, 1, 1)
    with database.write() as session:
        assert not expansion.advance(session, further, step, 4)
        check_invariants(session)


def test_canceling_a_job_of_which_nothing_is_expanded_yet_ends_it(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = expansion.submit(session, account_id, SourceKind.MANIFEST, blob="d" * 64)
    canceled = jobs.cancel(database, account_id, job.id)
    assert (canceled.state, canceled.total) == (JobState.ENDED, 0)


def test_anothers_job_is_not_canceled(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=1)
        other = accounts.create_account(session, "other").id
    with pytest.raises(NotFound):
        jobs.cancel(database, other, job.id)
    assert reread(database, job).state == JobState.QUEUED


def fail_all(session: Session) -> None:
    """Record every waiting item as failed, except each second one of a chunk."""
    while held := dispatch.lease_next(session, 60):
        dispatch.record(
            session, held, [scanned(item.id) if n % 2 else failed(item.id) for n, item in enumerate(held.items)]
        )


def test_a_retry_is_a_new_job_of_the_failed_items_from_the_same_sources(
    database: Database, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PAGE", 3)  # the seams of the pages do not show
    with database.write() as session:
        job = submit(session, account_id, items=17, chunk_items=4)
        fail_all(session)
        again = jobs.retry(session, account_id, job.id, 2)
        session.refresh(job)
        assert (again.retry_of, again.state, again.total) == (job.id, JobState.QUEUED, job.failed)
        first = [item for item in jobs.items(session, job, 100) if item.state == ItemState.FAILED]
        second = jobs.items(session, again, 100)
        assert [(i.custom_id, i.source_blob) for i in first] == [(i.custom_id, i.source_blob) for i in second]
        assert [item.ordinal for item in second] == list(range(9))
        chunks = session.scalars(select(Chunk).where(Chunk.job_id == again.id).order_by(Chunk.id)).all()
        assert [chunk.size for chunk in chunks] == [2, 2, 2, 2, 1]
        assert [chunk.turn for chunk in chunks] == sorted({chunk.turn for chunk in chunks})
        check_invariants(session)
        fail_all(session)
        check_invariants(session)


def test_a_job_that_runs_or_did_not_fail_is_not_retried(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=2)
        other = accounts.create_account(session, "other").id
        with pytest.raises(JobRunning, match="cancel it first"):
            jobs.retry(session, account_id, job.id, 4)
        held = take(session)
        dispatch.record(session, held, [scanned(item.id) for item in held.items])
        with pytest.raises(NothingToRetry):
            jobs.retry(session, account_id, job.id, 4)
        with pytest.raises(NotFound):
            jobs.retry(session, other, job.id, 4)
        assert [row.id for row in session.scalars(select(Job))] == [job.id]


def test_a_backlog_is_full_when_more_items_wait_than_may(database: Database, account_id: str) -> None:
    with database.write() as session:
        jobs.check_backlog(session, account_id, 0)
        submit(session, account_id, items=5)
        jobs.check_backlog(session, account_id, 5)
        with pytest.raises(BacklogFull, match="the limit of 4, and 5 of them"):
            jobs.check_backlog(session, account_id, 4)
        held = take(session)
        dispatch.record(session, held, [scanned(item.id) for item in held.items])
        jobs.check_backlog(session, account_id, 4)


def test_a_full_backlog_refuses_only_accounts_with_more_than_their_part_of_it(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        little, nothing = (accounts.create_account(session, name).id for name in ("little", "nothing"))
        submit(session, account_id, items=6)
        submit(session, little, items=2)
        with pytest.raises(BacklogFull, match="the limit of 7, and 6 of them"):
            jobs.check_backlog(session, account_id, 7)
        jobs.check_backlog(session, little, 7)
        jobs.check_backlog(session, nothing, 7)
        submit(session, little, items=2)
        with pytest.raises(BacklogFull):
            jobs.check_backlog(session, little, 7)
        jobs.check_backlog(session, nothing, 7)
        jobs.check_backlog(session, little, 10)


def test_a_cursor_whose_number_is_none_is_refused(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = submit(session, account_id, items=1)
        for number in ("", "x", "²", "9" * 20):
            with pytest.raises(InvalidSubmission, match="is no item of"):
                jobs.items(session, job, 3, after=f"itm_{job.id[4:]}_{number}")
