"""Turns: accounts that wait at the same time are served in turn, and what is given back is served next."""

from sqlalchemy import select, update

from shield import accounts, dispatch, jobs, turns
from shield.db import Database, now
from shield.jobs import NewItem
from shield.models import Account, Chunk
from tests.shield.work import failed, submit


def served(database: Database, count: int) -> list[str]:
    """The accounts of the next chunks, as they are leased and recorded one after the other."""
    names = []
    for _ in range(count):
        with database.write() as session:
            held = dispatch.lease_next(session, 60)
            assert held is not None
            dispatch.record(session, held, [failed(item.id) for item in held.items])
            account = select(Account.name).join(Chunk, Chunk.account_id == Account.id)
            names.append(session.scalars(account.where(Chunk.id == held.chunk_id)).one())
    return names


def test_a_later_job_takes_turns_with_a_longer_one(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, items=40, chunk_items=2)
    assert served(database, 6) == ["acme"] * 6
    with database.write() as session:
        other = accounts.create_account(session, "beta").id
        submit(session, other, items=6, chunk_items=2)
    order = served(database, 7)
    assert order.count("beta") == 3
    assert "acme" in order[:2]
    assert order[-1] == "acme"


def test_an_account_gains_no_turns_by_cutting_its_work_into_jobs(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "beta").id
        for _ in range(4):
            submit(session, account_id, items=4, chunk_items=2)
        submit(session, other, items=16, chunk_items=2)
    assert served(database, 8).count("beta") == 4


def test_an_account_that_rested_has_saved_up_nothing(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "beta").id
        submit(session, account_id, items=40, chunk_items=2)
    served(database, 10)
    with database.write() as session:
        submit(session, other, items=20, chunk_items=2)
    assert served(database, 10).count("beta") == 5


def test_a_chunk_that_is_given_back_is_served_next(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, items=20, chunk_items=2)
    served(database, 3)
    with database.write() as session:
        held = dispatch.lease_next(session, 60)
        assert held is not None
    served(database, 3)
    with database.write() as session:
        dispatch.release(session, held)
        again = dispatch.lease_next(session, 60)
        assert again is not None
        assert again.chunk_id == held.chunk_id


def test_turns_begin_anew_only_when_nothing_waits(database: Database, account_id: str) -> None:
    with database.write() as session:
        assert turns.next_of(session, account_id, "bulk", ahead=False) == 0
        submit(session, account_id, items=6, chunk_items=2)
        assert turns.next_of(session, account_id, "bulk", ahead=False) == 3
    served(database, 2)
    with database.write() as session:
        assert turns.served_now(session, "bulk", ahead=False) == 2
        assert turns.next_of(session, account_id, "bulk", ahead=False) == 3


def test_what_is_fetched_ahead_has_turns_of_its_own(database: Database, account_id: str) -> None:
    url, blob = NewItem(url="https://example.org/a.jpg"), NewItem(blob="a" * 64)
    with database.write() as session:
        jobs.submit(session, account_id, [url, url, blob, blob, url, blob, blob, blob], 2)
        found = session.execute(select(Chunk.ahead, Chunk.turn).order_by(Chunk.id)).all()
    assert [tuple(row) for row in found] == [(True, 0), (False, 0), (True, 1), (False, 1)]
    with database.write() as session:
        assert dispatch.lease_ahead(session, 60, not_of=[account_id]) is None
        ahead = dispatch.lease_ahead(session, 60, not_of=["acc_other"])
        assert ahead is not None
        assert [item.url for item in ahead.items] == [url.url, url.url]
        assert turns.served_now(session, "interactive", ahead=True) == 0
        assert turns.served_now(session, "bulk", ahead=True) == 1
        assert turns.served_now(session, "bulk", ahead=False) == 0


def test_the_singles_of_a_split_chunk_hold_up_nothing_that_is_given_back(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, items=12, chunk_items=6)
    for _ in range(2):  # two deaths split the first chunk
        with database.write() as session:
            held = dispatch.lease_next(session, 60)
            assert held is not None
            session.execute(update(Chunk).where(Chunk.id == held.chunk_id).values(lease_until=now(session)))
        with database.write() as session:
            dispatch.sweep(session)
    with database.write() as session:
        sizes = session.scalars(select(Chunk.size).where(Chunk.state == "ready").order_by(Chunk.turn, Chunk.id)).all()
    assert sizes[:3] == [1, 1, 6] or sizes[:3] == [1, 6, 1]
    assert len(sizes) == 7
