"""Events are written in the transaction in which they happen, once, with what is owed to whom."""

import json

import pytest
from sqlalchemy import func, select

from shield import accounts, dispatch, endpoints, events, jobs, outcomes
from shield.db import Database
from shield.models import Delivery, Event, Job
from shield.states import DisabledReason, EventType, Verdict
from tests.shield.post import end_a_job, states, subscribe, types
from tests.shield.work import failed, scanned, submit, take


def test_the_end_of_a_job_is_one_event_and_a_delivery_for_each_that_subscribes(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        first, second = (subscribe(session, account_id, EventType.JOB_ENDED) for _ in range(2))
        subscribe(session, account_id, EventType.JOB_CANCELED)
        disabled, deleted = (subscribe(session, account_id, EventType.JOB_ENDED) for _ in range(2))
        endpoints.disable(session, disabled, DisabledReason.BY_ACCOUNT, "tired of it")
        endpoints.delete(session, account_id, deleted.id)
        other = accounts.create_account(session, "other").id
        subscribe(session, other, EventType.JOB_ENDED)
        job = end_a_job(session, account_id)
        event = session.scalars(select(Event)).one()
        owed = session.scalars(select(Delivery.endpoint_id).order_by(Delivery.id)).all()
    assert (event.type, event.account_id, event.sequence) == ("job.ended", account_id, 1)
    assert event.data["job_id"] == job.id
    assert event.data["counts"] | {"total": 1, "suspect": 1} == event.data["counts"]
    assert sorted(owed) == sorted([first.id, second.id])


def test_an_event_of_a_transaction_that_is_rolled_back_never_happened(database: Database, account_id: str) -> None:
    with database.write() as session:
        subscribe(session, account_id)
    with database.write() as session:
        end_a_job(session, account_id)
        assert states(session) == ["pending"] * 2
        session.rollback()
    with database.write() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 0
        end_a_job(session, account_id)
        assert session.scalars(select(Event.sequence)).all() == [1, 2]


def test_a_job_is_told_even_where_nobody_subscribes_and_its_items_are_not(database: Database, account_id: str) -> None:
    with database.write() as session:
        end_a_job(session, account_id)
        assert types(session) == ["job.ended"]
        assert states(session) == []


def test_flagged_and_failed_items_are_told_before_the_end_of_their_job(database: Database, account_id: str) -> None:
    with database.write() as session:
        subscribe(session, account_id)
        submit(session, account_id, 4)
        held = take(session)
        a, b, c, d = (item.id for item in held.items)
        dispatch.record(
            session,
            held,
            [scanned(a, Verdict.FAKE), scanned(b, Verdict.CLEAR), failed(c), scanned(d, Verdict.SUSPECT)],
        )
        told = session.scalars(select(Event).order_by(Event.sequence)).all()
    assert [(event.type, event.data.get("item_id")) for event in told] == [
        ("item.flagged", a),
        ("item.flagged", d),
        ("item.failed", c),
        ("job.ended", None),
    ]
    assert [event.sequence for event in told] == [1, 2, 3, 4]
    assert told[0].data["custom_id"] == "photo 0"
    assert (told[0].data["verdict"], told[0].data["score"]) == ("fake", 0.7)
    assert told[2].data["error"] == {"code": "truncated", "detail": "the file ends early"}


def test_an_item_that_is_poison_is_told(database: Database, account_id: str) -> None:
    with database.write() as session:
        subscribe(session, account_id, EventType.ITEM_FAILED)
        submit(session, account_id, 1)
        for _ in range(dispatch.POISON_AT):
            take(session, seconds=-1.0)
            dispatch.sweep(session)
        event = session.scalars(select(Event).where(Event.type == "item.failed")).one()
    assert event.data["error"]["code"] == "poison"


@pytest.mark.parametrize("leased", [0, 1, 4])
def test_a_canceled_job_is_told_as_canceled_and_not_as_ended(database: Database, account_id: str, leased: int) -> None:
    with database.write() as session:
        subscribe(session, account_id)
        job = submit(session, account_id, 4, chunk_items=4 if leased == 4 else 1)
        held = take(session) if leased else None
    jobs.cancel(database, account_id, job.id)
    with database.write() as session:
        if held is not None:
            dispatch.record(session, held, [scanned(item.id, Verdict.CLEAR) for item in held.items])
        ended = session.get_one(Job, job.id)
        assert (ended.state, ended.done) == ("ended", leased)
        assert types(session) == ["job.canceled"]
        assert states(session) == ["pending"]


def test_every_account_counts_its_own_events(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
        for owner in (account_id, other, account_id):
            end_a_job(session, owner)
        counted = session.execute(select(Event.account_id, Event.sequence).order_by(Event.id)).all()
    assert sorted((owner == other, sequence) for owner, sequence in counted) == [(False, 1), (False, 2), (True, 1)]


def test_the_largest_event_is_thin(database: Database, account_id: str) -> None:
    with database.write() as session:
        subscribe(session, account_id, EventType.ITEM_FAILED)
        jobs.submit(session, account_id, [jobs.NewItem(blob="0" * 64, custom_id="\N{GRINNING FACE}" * 1024)], 4)
        held = take(session)
        outcome = outcomes.Failed(held.items[0].id, "fetch_failed", "\N{GRINNING FACE}" * 1000)
        dispatch.record(session, held, [outcome])
        event = session.scalars(select(Event).where(Event.type == "item.failed")).one()
    assert len(json.dumps(event.data, ensure_ascii=False).encode()) < 20_000


def test_a_test_goes_to_its_endpoint_alone(database: Database, account_id: str) -> None:
    with database.write() as session:
        mine, _ = subscribe(session, account_id), subscribe(session, account_id)
        delivery = events.test(session, mine)
        assert types(session) == ["endpoint.test"]
        assert (delivery.endpoint_id, states(session)) == (mine.id, ["pending"])
