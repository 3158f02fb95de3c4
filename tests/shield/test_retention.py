"""Jobs that are deleted or expire: hidden at once, purged later, and nothing of others with them."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, select, update
from sqlalchemy.orm import Session

from shield import accounts, dispatch, expansion, jobs, retention, uploads
from shield.db import Database, now
from shield.errors import JobRunning, NotFound
from shield.jobs import NewItem
from shield.models import Base, Item, Job, Upload
from shield.states import SourceKind
from tests.shield.work import scanned, submit, take

DAY = timedelta(days=1)


def ended(session: Session, account_id: str, items: int = 2) -> Job:
    """A job that has ended."""
    job = submit(session, account_id, items, chunk_items=64)
    held = take(session)
    dispatch.record(session, held, [scanned(item.id) for item in held.items])
    session.refresh(job)
    return job


def age(session: Session, job: Job, *, deleted: timedelta) -> None:
    session.execute(update(Job).where(Job.id == job.id).values(deleted_at=now(session) - deleted))


def test_a_deleted_job_and_its_items_are_not_found_any_more(database: Database, account_id: str) -> None:
    with database.write() as session:
        job, other = ended(session, account_id), ended(session, account_id)
        (item, *_) = jobs.items(session, job, 1)
        retention.delete_job(session, account_id, job.id, "key_1")
    with database.read() as session:
        assert [row.id for row in jobs.newest(session, account_id, 10)] == [other.id]
        for hidden in (
            lambda: jobs.get(session, account_id, job.id),
            lambda: jobs.item(session, account_id, item.id),
            lambda: jobs.retry(session, account_id, job.id, 4),
            lambda: retention.delete_job(session, account_id, job.id, "key_1"),
        ):
            with pytest.raises(NotFound):
                hidden()
    with pytest.raises(NotFound):
        jobs.cancel(database, account_id, job.id)


def test_a_job_that_runs_or_is_anothers_is_not_deleted(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
        job = submit(session, account_id, items=1)
        with pytest.raises(JobRunning, match="cancel it first"):
            retention.delete_job(session, account_id, job.id, "key_1")
        with pytest.raises(NotFound):
            retention.delete_job(session, other, ended(session, account_id).id, "key_1")
        assert len(jobs.newest(session, account_id, 10)) == 2


def test_jobs_expire_so_many_days_after_their_end_a_part_at_once(database: Database, account_id: str) -> None:
    with database.write() as session:
        old = [ended(session, account_id) for _ in range(3)]
        young, running = ended(session, account_id), submit(session, account_id, items=1)
        for job in old:
            session.execute(update(Job).where(Job.id == job.id).values(ended_at=now(session) - 31 * DAY))
        assert [retention.expire(session, 30, 2) for _ in range(3)] == [2, 1, 0]
    with database.read() as session:
        assert {job.id for job in jobs.newest(session, account_id, 10)} == {young.id, running.id}
        job = jobs.get(session, account_id, young.id)
        assert job.ended_at is not None
        assert retention.expires_at(job, 30) == job.ended_at + 30 * DAY
        assert retention.expires_at(running, 30) is None
        assert retention.due(session, 10) == []  # hidden, and purged after another day


def test_a_job_is_due_a_day_after_it_was_deleted(database: Database, account_id: str) -> None:
    with database.write() as session:
        first, second, third = (ended(session, account_id) for _ in range(3))
        age(session, first, deleted=1.1 * DAY)
        age(session, second, deleted=1.2 * DAY)
        age(session, third, deleted=0.9 * DAY)
        assert retention.due(session, 10) == [second.id, first.id]
        assert retention.due(session, 1) == [second.id]


def view(session: Session, job: Job, ordinal: int, blob: str) -> None:
    session.execute(update(Item).where(Item.job_id == job.id, Item.ordinal == ordinal).values(view_blob=blob))


def test_waste_is_what_nothing_else_refers_to(database: Database, account_id: str) -> None:
    """Sources of items are 0, 1, 2... in every job of `submit`; the views are named here."""
    with database.write() as session:
        job, other = ended(session, account_id, items=4), ended(session, account_id, items=2)
        for n, blob in enumerate(("own", "own", "shared", "later")):
            view(session, job, n, blob)
        view(session, other, 0, "shared")
        view(session, other, 1, f"{2:064x}")  # a view of one is the source of another
        waste = retention.next_waste(session, job.id, 3)
        assert waste is not None
        assert (waste.last, set(waste.blobs)) == (2, {"own"})
        retention.purge_items(session, job.id, waste.last)
        waste = retention.next_waste(session, job.id, 3)
        assert waste is not None
        assert (waste.last, set(waste.blobs)) == (3, {"later", f"{3:064x}"})
        retention.purge_items(session, job.id, waste.last)
        assert retention.next_waste(session, job.id, 3) is None
        retention.purge_job(session, job.id)
        assert session.scalars(select(Job.id)).all() == [other.id]
        waste = retention.next_waste(session, other.id, 3)
        assert waste is not None
        assert waste.blobs == {"shared", f"{0:064x}", f"{1:064x}", f"{2:064x}"}


def test_an_image_that_comes_twice_in_a_job_is_waste_with_its_last_item(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = jobs.submit(session, account_id, [NewItem(blob="a" * 64)] * 3, 4)
        first = retention.next_waste(session, job.id, 2)
        assert first is not None
        assert first.blobs == frozenset()
        retention.purge_items(session, job.id, first.last)
        second = retention.next_waste(session, job.id, 2)
        assert second is not None
        assert second.blobs == {"a" * 64}


def test_uploads_go_with_their_last_item_and_those_of_none_when_they_expire(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        made = uploads.create(session, account_id, 5, hours=1.0)
        *old, young = made
        for upload in old:
            upload.expires_at = now(session) - 1.5 * DAY
        used, shared, left, late = old
        session.flush()
        job = jobs.submit(session, account_id, [NewItem(upload=one.id) for one in (used, shared, young)], 4)
        other = jobs.submit(session, account_id, [NewItem(upload=shared.id)], 4)
        late.expires_at = now(session) - 0.5 * DAY
        session.flush()

        page = retention.expired_uploads(session, None, 2)
        rest = retention.expired_uploads(session, page.after, 2)
        assert sorted(page.unused + rest.unused) == [left.id]
        assert (page.after is None, rest.after) == (False, None)
        retention.purge_uploads(session, [left.id, shared.id])  # one was named by an item meanwhile

        waste = retention.next_waste(session, job.id, 10)
        assert waste is not None
        assert waste.uploads == (used.id,)
        retention.purge_items(session, job.id, waste.last)
        retention.purge_uploads(session, waste.uploads)
        left_over = {one.id for one in session.query(Upload)}
        assert left_over == {shared.id, late.id, young.id}
        waste = retention.next_waste(session, other.id, 10)
        assert waste is not None
        assert waste.uploads == (shared.id,)


def test_every_column_that_names_a_blob_is_known_to_the_purge() -> None:
    columns = {str(column) for table in Base.metadata.sorted_tables for column in table.c if "blob" in column.name}
    assert columns == {str(naming.property.columns[0]) for naming in retention.NAMING}


def test_only_blobs_that_no_row_names_are_unnamed(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, items=2)
        items = session.scalars(select(Item).order_by(Item.ordinal)).all()
        items[0].source_blob, items[1].source_blob = "a" * 64, "a" * 64
        items[1].view_blob = "b" * 64
        expansion.submit(session, account_id, SourceKind.MANIFEST, blob="c" * 64)
    with database.read() as session:
        asked = [letter * 64 for letter in "abcdef"]
        assert sorted(retention.unnamed(session, asked)) == asked[3:]
        assert retention.unnamed(session, []) == []


def test_only_uploads_without_a_row_are_forgotten(database: Database, account_id: str) -> None:
    with database.write() as session:
        (known,) = uploads.create(session, account_id, 1, hours=1.0)
        unknown = f"upl_{'0' * 27}"
        assert retention.forgotten(session, [known.id, unknown]) == [unknown]


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_an_index_alone_tells_whether_a_blob_is_named(database: Database) -> None:
    plans: list[Any] = []

    def explain(connection: Connection, _c: object, statement: str, parameters: Any, *_: object) -> None:
        if "json_each" in statement and not statement.startswith("EXPLAIN"):
            plans.extend(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all())

    event.listen(database.engine, "before_cursor_execute", explain)
    with database.read() as session:
        retention.unnamed(session, ["a" * 64])
    looked_up = [row[3] for row in plans if "SEARCH" in row[3]]
    assert len(looked_up) == len(retention.NAMING)
    assert all("COVERING INDEX" in row for row in looked_up), looked_up
