"""Steps of an expansion: each is one transaction, none is taken twice, and the job ends like any other."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from shield import accounts, buckets, dispatch, expansion, jobs, policies, uploads
from shield.buckets import Place
from shield.db import Database
from shield.expansion import KEPT_REJECTIONS, Expanding, Found, Rejected, Step
from shield.jobs import NewItem
from shield.models import Item, Job
from shield.states import SourceKind
from tests.shield.work import WEIGHTS, check_invariants, scanned, take

BLOB = "d" * 64


def begin(database: Database, account_id: str) -> Job:
    with database.write() as session:
        policies.register_weights(session, WEIGHTS, "test", "1", 0.8, 0.5)
        return expansion.submit(session, account_id, SourceKind.MANIFEST, blob=BLOB, name="long")


def expanding(database: Database, job: Job) -> Expanding:
    with database.read() as session:
        found = expansion.next_source(session, job.account_id, "")
    assert found is not None
    return found


def step(here: Expanding, *items: NewItem | tuple[str, str], last: bool = False) -> Step:
    """A step of these entries, each an item, or a code and a sentence."""
    entries = list(enumerate(items, here.position + 1))
    position = here.position + len(items)
    return Step(
        [Found(number, entry) for number, entry in entries if isinstance(entry, NewItem)],
        [Rejected(number, *entry) for number, entry in entries if not isinstance(entry, NewItem)],
        position,
        f"after {position}",
        last,
    )


def photos(count: int, first: int = 0) -> list[NewItem]:
    return [NewItem(blob=f"{n:064x}", custom_id=f"photo {n}") for n in range(first, first + count)]


def advance(database: Database, here: Expanding, taken: Step) -> bool:
    with database.write() as session:
        return expansion.advance(session, here, taken, chunk_items=4)


def found(session: Session, job: Job) -> Job:
    return jobs.get(session, job.account_id, job.id)


def scan_all(database: Database) -> None:
    while True:
        with database.write() as session:
            held = dispatch.lease_next(session, 60)
            if held is None:
                return
            dispatch.record(session, held, [scanned(item.id) for item in held.items])


def test_a_job_of_a_source_expands_in_the_bulk_lane_and_has_no_item_yet(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    assert (job.state, job.lane, job.total, job.name) == ("expanding", "bulk", 0, "long")
    assert expanding(database, job) == Expanding(job.id, account_id, SourceKind.MANIFEST, BLOB, None, 0, "")


def test_steps_write_items_in_order_and_how_far_they_are(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    here = expanding(database, job)
    assert advance(database, here, step(here, *photos(5), ("not_json", "no")))
    here = expanding(database, job)
    assert (here.position, here.cursor) == (6, "after 6")
    assert advance(database, here, step(here, *photos(3, first=5), last=True))
    with database.read() as session:
        items = jobs.items(session, job, 100)
        assert [(item.ordinal, item.custom_id) for item in items] == [(n, f"photo {n}") for n in range(8)]
        row = found(session, job)
        assert (row.state, row.total, row.rejected) == ("queued", 8, 1)
        check_invariants(session)


def test_a_step_that_another_process_has_taken_changes_nothing(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    here = expanding(database, job)
    assert advance(database, here, step(here, *photos(5)))
    assert not advance(database, here, step(here, *photos(5), ("not_json", "no"), last=True))
    with database.write() as session:
        assert not expansion.fail(session, here, "late")
    with database.read() as session:
        row = found(session, job)
        assert (row.state, row.total, row.rejected, row.reason) == ("expanding", 5, 0, None)
        check_invariants(session)


def test_a_step_that_is_broken_off_leaves_nothing_and_is_taken_again(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    here = expanding(database, job)

    def broken_off() -> None:
        with database.write() as session:
            assert expansion.advance(session, here, step(here, *photos(5)), 4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert expanding(database, job) == here
    assert advance(database, here, step(here, *photos(5), last=True))
    with database.read() as session:
        assert found(session, job).total == 5
        check_invariants(session)


def test_a_cancel_stops_an_expansion_and_ends_its_job(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    here = expanding(database, job)
    assert advance(database, here, step(here, *photos(5)))
    ahead = expanding(database, job)
    jobs.cancel(database, account_id, job.id)
    assert not advance(database, ahead, step(ahead, *photos(5), last=True))
    with database.write() as session:
        assert not expansion.fail(session, ahead, "late")
        row = found(session, job)
        assert (row.state, row.total, row.canceled, row.reason) == ("ended", 5, 5, None)
        check_invariants(session)
        assert expansion.next_account(session, "") is None


def test_a_job_is_scanned_while_it_expands_and_ends_only_after_it(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    here = expanding(database, job)
    assert advance(database, here, step(here, *photos(5)))
    scan_all(database)
    with database.read() as session:
        row = found(session, job)
        assert (row.state, row.done, row.total) == ("expanding", 5, 5)
        assert row.started_at is not None
    here = expanding(database, job)
    assert advance(database, here, step(here, *photos(2, first=5), last=True))
    with database.read() as session:
        assert found(session, job).state == "running"
    scan_all(database)
    with database.read() as session:
        row = found(session, job)
        assert (row.state, row.done, row.reason) == ("ended", 7, None)
        check_invariants(session)


def test_a_job_whose_items_are_all_scanned_ends_with_the_last_step(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    here = expanding(database, job)
    assert advance(database, here, step(here, *photos(5)))
    scan_all(database)
    here = expanding(database, job)
    assert advance(database, here, step(here, last=True))
    with database.read() as session:
        assert found(session, job).state == "ended"
        check_invariants(session)


def test_a_source_without_an_item_ends_its_job_at_once(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    here = expanding(database, job)
    assert advance(database, here, step(here, ("not_json", "no"), last=True))
    with database.read() as session:
        row = found(session, job)
        assert (row.state, row.total, row.rejected, row.reason) == ("ended", 0, 1, None)


def test_a_source_that_fails_keeps_what_was_expanded_and_says_why(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    here = expanding(database, job)
    assert advance(database, here, step(here, *photos(5)))
    here = expanding(database, job)
    with database.write() as session:
        take(session)
    with database.write() as session:
        assert expansion.fail(session, here, "gone" * 500)
    with database.read() as session:
        row = found(session, job)
        assert (row.state, row.reason, row.reason_detail) == ("running", "source_failed", "gone" * 250)
        assert row.total == 5


def test_a_source_that_fails_at_its_beginning_ends_its_job(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    here = expanding(database, job)
    with database.write() as session:
        assert expansion.fail(session, here, "gone")
    with database.read() as session:
        row = found(session, job)
        assert (row.state, row.total, row.reason) == ("ended", 0, "source_failed")


def test_the_first_rejections_are_kept_and_all_are_counted(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    for size in (KEPT_REJECTIONS - 1, 3, 3):
        here = expanding(database, job)
        assert advance(database, here, step(here, *[("not_json", "x" * 2000)] * size))
    with database.read() as session:
        row = found(session, job)
        assert row.rejected == KEPT_REJECTIONS + 5
        kept = expansion.rejections(session, row, 2000)
        assert [one.position for one in kept] == list(range(1, KEPT_REJECTIONS + 1))
        assert kept[0].detail == "x" * 1000
        assert [one.position for one in expansion.rejections(session, row, 2, after=998)] == [999, 1000]


def test_what_is_not_the_accounts_own_is_rejected_and_its_neighbours_go_on(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
        buckets.grant(session, account_id, Place("photos", "mine/"))
        buckets.grant(session, other, Place("photos", ""))
        mine = uploads.create(session, account_id, 1, 1.0)[0].id
        theirs = uploads.create(session, other, 1, 1.0)[0].id
    job = begin(database, account_id)
    here = expanding(database, job)
    items = [
        NewItem(url="https://example.org/a.jpg"),
        NewItem(url="s3://photos/mine/a.jpg"),
        NewItem(url="s3://photos/theirs/a.jpg"),
        NewItem(upload=theirs),
        NewItem(upload=mine),
        NewItem(upload="upl_" + "0" * 27),
    ]
    assert advance(database, here, step(here, *items, ("not_json", "no"), last=True))
    with database.read() as session:
        row = found(session, job)
        assert (row.total, row.rejected) == (3, 4)
        rejected = [(one.position, one.code) for one in expansion.rejections(session, row, 10)]
        assert rejected == [(3, "s3_forbidden"), (4, "unknown_upload"), (6, "unknown_upload"), (7, "not_json")]
        sources = session.execute(
            select(Item.source_url, Item.source_upload).where(Item.job_id == job.id).order_by(Item.ordinal)
        ).all()
        assert [tuple(source) for source in sources] == [
            ("https://example.org/a.jpg", None),
            ("s3://photos/mine/a.jpg", None),
            (None, mine),
        ]
        check_invariants(session)


def test_accounts_take_turns_and_so_do_the_jobs_of_one(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
    mine = [begin(database, account_id) for _ in range(3)]
    theirs = begin(database, other)
    with database.read() as session:
        first, second = sorted((account_id, other))
        assert [expansion.next_account(session, after) for after in ("", first, second)] == [first, second, first]
        turns = [
            expansion.next_source(session, account_id, after) for after in ("", mine[0].id, mine[1].id, mine[2].id)
        ]
        assert [turn and turn.job_id for turn in turns] == [mine[0].id, mine[1].id, mine[2].id, mine[0].id]
        turn = expansion.next_source(session, other, theirs.id)
        assert turn is not None
        assert turn.job_id == theirs.id


def test_another_account_sees_no_rejection(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    here = expanding(database, job)
    assert advance(database, here, step(here, ("not_json", "no"), last=True))
    with database.read() as session:
        foreign = Job(id=job.id, account_id="acc_other")
        assert expansion.rejections(session, foreign, 10) == []


def test_of_two_processes_that_take_one_step_at_once_one_takes_it(database: Database, account_id: str) -> None:
    job = begin(database, account_id)
    for _ in range(5):
        here = expanding(database, job)
        taken = step(here, *photos(50, first=here.position))
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda _, here=here, taken=taken: advance(database, here, taken), range(2)))
        assert sorted(answers) == [False, True]
    with database.read() as session:
        assert [item.custom_id for item in jobs.items(session, job, 1000)] == [f"photo {n}" for n in range(250)]


def test_a_cancel_at_the_same_time_as_a_step_leaves_no_item_waiting(database: Database, account_id: str) -> None:
    for last in (False, True) * 4:
        job = begin(database, account_id)
        here = expanding(database, job)
        taken = step(here, *photos(50), last=last)
        with ThreadPoolExecutor(2) as threads:
            step_taken = threads.submit(advance, database, here, taken)
            threads.submit(jobs.cancel, database, account_id, job.id).result()
        with database.read() as session:
            row = found(session, job)
            assert (row.state, row.canceled) == ("ended", 50 if step_taken.result() else 0)
            check_invariants(session)
