"""The purge and the cancel chore: what is expired or deleted goes, bytes and rows, and nothing else."""

import io
import os
import time
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from shield import idempotency, jobs, retention, uploads
from shield.db import now
from shield.errors import StorageUnavailable
from shield.jobs import NewItem
from shield.models import Base, Chunk, IdempotencyKey, Item, Job, Upload
from tests.shield.work import check_invariants
from tests.worker.conftest import House
from tests.worker.stub import StubScanner
from worker import cancel as canceling
from worker import purge as purging
from worker.cancel import cancel
from worker.purge import Purge

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn does all that there is, however slow the machine is."""
    monkeypatch.setattr(purging, "TURN_SECONDS", 600.0)
    monkeypatch.setattr(canceling, "TURN_SECONDS", 600.0)


def scan(house: House, *images: bytes) -> Job:
    """A job of these images that has ended."""
    job = house.submit(*images)
    scanning = house.scanning(StubScanner())
    while scanning.scan_ready():
        pass
    return job


def blobs(house: House) -> int:
    return sum(path.is_file() for path in house.config.blob_folder.rglob("*"))


def let_a_day_pass(house: House) -> None:
    """For what is stored, and for what is deleted."""
    for path in house.config.blob_folder.rglob("*"):
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    with house.database.write() as session:
        session.execute(update(Job).where(Job.deleted_at.is_not(None)).values(deleted_at=now(session) - 1.1 * DAY))


def delete(house: House, job: Job) -> None:
    with house.database.write() as session:
        retention.delete_job(session, house.account_id, job.id, "key_1")


def rows(house: House) -> dict[str, int]:
    """How many rows there are of what belongs to jobs."""
    # An event is kept as long as events are, and an entry of the audit log for good.
    kept = ("account", "weights", "api_key", "login_link", "event", "audit_entry")
    with house.database.read() as session:
        counts = {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }
    return {name: count for name, count in counts.items() if count and name not in kept}


def test_a_deleted_job_is_purged_with_its_images_and_views_a_day_later(house: House) -> None:
    job = scan(house, b"face 1", b"none 2", b"broken")
    with house.database.write() as session:
        idempotency.remember(session, "k", "f" * 64, session.get_one(Job, job.id))
    purge = Purge(house.database, house.blobs, house.config)
    delete(house, job)
    assert (purge.turn(), blobs(house)) == (0, 5)
    let_a_day_pass(house)
    assert (purge.turn(), blobs(house)) == (1, 0)
    assert rows(house) == {}
    assert purge.turn() == 0


def test_what_other_jobs_refer_to_stays(house: House) -> None:
    first = scan(house, b"face 1", b"face 2")
    second = scan(house, b"face 1", b"none 3")  # the first of them copies the result, and refers to the same view
    delete(house, first)
    let_a_day_pass(house)
    assert Purge(house.database, house.blobs, house.config).turn() == 1
    assert blobs(house) == 4
    for item in house.items(second):
        assert house.blobs.get(item.source_blob or "")
        assert house.blobs.get(item.view_blob or "")
    house.check()


def test_what_a_request_has_stored_once_more_stays_though_no_row_names_it_yet(house: House) -> None:
    job = scan(house, b"face 1")
    delete(house, job)
    let_a_day_pass(house)
    blob = house.blobs.put(io.BytesIO(b"face 1"), 100)
    assert Purge(house.database, house.blobs, house.config).turn() == 1
    assert house.blobs.get(blob) == b"face 1"
    assert blobs(house) == 1


def test_a_retry_outlives_the_job_whose_failed_items_it_took(house: House) -> None:
    first = scan(house, b"broken", b"face 1")
    with house.database.write() as session:
        second = jobs.retry(session, house.account_id, first.id, 4)
    delete(house, first)
    let_a_day_pass(house)
    assert Purge(house.database, house.blobs, house.config).turn() == 1
    assert house.scanning(StubScanner()).scan_ready()
    assert house.outcomes(second) == ["truncated"]
    assert house.job(second).retry_of == first.id


def test_jobs_expire_and_are_purged_a_day_later(house: House) -> None:
    old, young = scan(house, b"face 1"), scan(house, b"face 2")
    purge = Purge(house.database, house.blobs, house.config)
    with house.database.write() as session:
        session.execute(update(Job).where(Job.id == old.id).values(ended_at=now(session) - 31 * DAY))
    assert purge.turn() == 0
    with house.database.read() as session:
        assert [job.id for job in jobs.newest(session, house.account_id, 10)] == [young.id]
    let_a_day_pass(house)
    assert (purge.turn(), blobs(house)) == (1, 2)


def test_a_large_job_goes_in_several_turns(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "PAGE", 2)
    monkeypatch.setattr(purging, "TURN_SECONDS", 0.0)
    job = scan(house, *[b"face %d" % n for n in range(5)])
    delete(house, job)
    let_a_day_pass(house)
    purge = Purge(house.database, house.blobs, house.config)
    left = [(purge.turn(), rows(house).get("item", 0), blobs(house)) for _ in range(4)]
    assert left == [(0, 3, 6), (0, 1, 2), (0, 0, 0), (1, 0, 0)]
    assert rows(house) == {}


def test_bytes_that_cannot_be_removed_keep_their_rows(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job = scan(house, b"face 1")
    delete(house, job)
    let_a_day_pass(house)

    def away(*_: object) -> bool:
        raise StorageUnavailable("the store is away")

    with monkeypatch.context() as broken:
        broken.setattr(house.blobs, "remove_old", away)
        with pytest.raises(StorageUnavailable):
            Purge(house.database, house.blobs, house.config).turn()
    assert rows(house)["item"] == 1
    assert Purge(house.database, house.blobs, house.config).turn() == 1
    assert (rows(house), blobs(house)) == ({}, 0)


def test_keys_and_uploads_are_forgotten_when_they_expire(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "PAGE", 2)
    job = scan(house, b"face 1")
    with house.database.write() as session:
        idempotency.remember(session, "k", "f" * 64, session.get_one(Job, job.id))
        made = uploads.create(session, house.account_id, 5, hours=1.0)
        session.execute(update(Upload).values(expires_at=now(session) - 2 * DAY))
        session.execute(update(IdempotencyKey).values(created_at=now(session) - 2 * DAY))
        using = jobs.submit(session, house.account_id, [NewItem(upload=made[1].id)], 4)
        ids = [upload.id for upload in made]
    for upload_id in ids:
        house.blobs.put_upload(upload_id, io.BytesIO(b"none 1"), 100)
    Purge(house.database, house.blobs, house.config).turn()
    assert rows(house).get("upload") == 1
    assert "idempotency_key" not in rows(house)
    assert house.blobs.get_upload(ids[1], 100) == b"none 1"
    assert house.job(using).total == 1


def test_the_house_ends_what_a_canceled_job_has_left(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "CANCELED_AT_ONCE", 1)
    monkeypatch.setattr(canceling, "BATCH", 3)
    first, second = (house.submit(*[b"face %d" % n for n in range(10)]) for _ in range(2))
    for job in (first, second):
        jobs.cancel(house.database, house.account_id, job.id)
    assert cancel(house.database) == 18
    assert house.ended(first)
    assert house.ended(second)
    house.check()
    assert cancel(house.database) == 0


def test_a_canceling_job_whose_request_died_is_ended_by_the_house(house: House) -> None:
    job = house.submit(*[b"face %d" % n for n in range(10)])
    with house.database.write() as session:
        session.execute(update(Job).values(state="canceling"))
    assert cancel(house.database) == 10
    assert house.ended(job)
    with house.database.read() as session:
        assert set(session.scalars(select(Chunk.state))) == {"done"}
        assert set(session.scalars(select(Item.state))) == {"canceled"}
        check_invariants(session)
