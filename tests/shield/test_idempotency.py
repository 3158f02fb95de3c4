"""Idempotency keys: one key makes one job, however often and however many at once it is sent."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from shield import accounts, idempotency, jobs
from shield.db import Database, now
from shield.errors import IdempotencyKeyReused, StorageUnavailable
from shield.models import IdempotencyKey, Job
from tests.shield.work import check_invariants, submit

ASKED = idempotency.fingerprint({"name": "", "items": [1, 2]})


def post(database: Database, account_id: str, key: str, asked: str = ASKED) -> str:
    """What a request does; the id of its job."""
    with database.write() as session:
        made = idempotency.job_of(session, account_id, key, asked)
        if made is not None:
            return jobs.get(session, account_id, made).id
        job = submit(session, account_id, items=2)
        idempotency.remember(session, key, asked, job)
        return job.id


def test_equal_requests_have_equal_fingerprints_and_others_have_not() -> None:
    first: dict[str, object] = {"name": "a", "items": [{"url": "x", "custom_id": None}], "source": None}
    same = {"source": None, "items": [{"custom_id": None, "url": "x"}], "name": "a"}
    assert idempotency.fingerprint(first) == idempotency.fingerprint(same)
    others = [{**first, "name": "b"}, {**first, "items": []}, {**first, "items": [{"url": "x", "custom_id": ""}]}]
    assert len({idempotency.fingerprint(asked) for asked in [first, *others]}) == 4


def test_200_requests_at_once_with_one_key_make_one_job(database: Database, account_id: str) -> None:
    ready = threading.Barrier(200)
    answers: list[str] = []

    def ask() -> None:
        ready.wait()
        while True:
            try:
                answers.append(post(database, account_id, "once"))
            except StorageUnavailable:  # a 503, as where there are not so many connections: asked again
                continue
            return

    threads = [threading.Thread(target=ask) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 200
    assert len(set(answers)) == 1
    with database.read() as session:
        assert session.scalars(select(func.count()).select_from(Job)).one() == 1
        check_invariants(session)


def test_a_key_belongs_to_one_request_and_to_one_account(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
    first = post(database, account_id, "k")
    assert post(database, account_id, "k") == first
    assert post(database, account_id, "K") != first
    assert post(database, other, "k", "f" * 64) != first
    with pytest.raises(IdempotencyKeyReused, match=first):
        post(database, account_id, "k", "f" * 64)


def test_a_request_that_fails_leaves_its_key_free(database: Database, account_id: str) -> None:
    def fails() -> None:
        with database.write() as session:
            assert idempotency.job_of(session, account_id, "k", ASKED) is None
            idempotency.remember(session, "k", ASKED, submit(session, account_id, items=2))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    post(database, account_id, "k", "f" * 64)


def test_keys_are_forgotten_after_their_time_some_at_once(database: Database, account_id: str) -> None:
    made = [post(database, account_id, f"key {n}") for n in range(5)]
    with database.write() as session:
        old = update(IdempotencyKey).where(IdempotencyKey.key != "key 4")
        session.execute(old.values(created_at=now(session) - timedelta(hours=25)))
        assert idempotency.forget(session, 24.0, 3) == 3
        assert idempotency.forget(session, 24.0, 3) == 1
        assert idempotency.forget(session, 24.0, 3) == 0
    assert post(database, account_id, "key 4") == made[4]
    assert post(database, account_id, "key 0", "f" * 64) not in made
