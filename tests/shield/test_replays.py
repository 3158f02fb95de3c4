"""Events are owed once more: one by its id, or those of a time range."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from shield import accounts, deliveries, events, replays
from shield.db import Database, now
from shield.errors import NotFound
from shield.models import Delivery, Event
from shield.states import EventType, Trigger
from tests.shield.post import SCHEDULE, answered, end_a_job, lease, states, subscribe

DAY = timedelta(days=1)


def test_one_event_is_replayed_under_its_own_id(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        [held] = lease(session, endpoint)
        deliveries.record(session, [answered(held, 204)], SCHEDULE)
        replays.replay(session, endpoint, held.event_id)
        [again] = lease(session, endpoint)
        assert (again.event_id, again.number) == (held.event_id, 1)
        assert again.id != held.id
        assert sorted(session.scalars(select(Delivery.trigger))) == [Trigger.EVENT, Trigger.REPLAY]


def test_a_replay_of_what_still_waits_hastens_it(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        [held] = lease(session, endpoint)
        deliveries.record(session, [answered(held, 500)], SCHEDULE)
        assert lease(session, endpoint) == []
        replays.replay(session, endpoint, held.event_id)
        [again] = lease(session, endpoint)
        assert (again.id, again.number) == (held.id, 2)


def test_a_replay_of_what_is_being_sent_owes_nothing_more(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        [held] = lease(session, endpoint)
        replays.replay(session, endpoint, held.event_id)
        assert states(session) == ["sending"]
        assert deliveries.record(session, [answered(held, 204)], SCHEDULE) == 1
        assert states(session) == ["delivered"]


def test_a_time_range_goes_by_the_time_that_was_told(database: Database, account_id: str) -> None:
    with database.write() as session:
        end_a_job(session, account_id)
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        event = session.scalars(select(Event)).one()
        event.created_at += timedelta(minutes=5)  # by the database's clock; the id is of another machine's
        session.flush()
        told, next_moment = event.created_at, event.created_at + timedelta(microseconds=1)
        for since, until, count in ((next_moment, None, 0), (told, told, 0), (told, next_moment, 1)):
            assert replays.replay_range(session, endpoint, since, until).count == count


@pytest.mark.parametrize(
    ("since", "until", "counted"),
    [
        ("0001-01-01T00:00:00+14:00", None, 1),
        ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 1),
        ("9999-12-31T23:59:59-14:00", None, 0),
        ("1970-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", 0),
    ],
)
def test_a_time_range_may_reach_to_the_ends_of_the_calendar(
    database: Database, account_id: str, since: str, until: str | None, counted: int
) -> None:
    with database.write() as session:
        end_a_job(session, account_id)
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        ends = [datetime.fromisoformat(each) if each else None for each in (since, until)]
        assert ends[0] is not None
        assert replays.replay_range(session, endpoint, ends[0], ends[1]).count == counted


def test_an_unknown_event_is_not_replayed_nor_is_anothers(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id)
        other = accounts.create_account(session, "other").id
        end_a_job(session, other)
        for event_id in ("evt_" + "0" * 27, session.scalars(select(Event.id)).one()):
            with pytest.raises(NotFound, match="no event"):
                replays.replay(session, endpoint, event_id)
        assert states(session) == []


def test_a_time_range_is_replayed_but_for_what_arrived_or_is_on_its_way(
    database: Database, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "REPLAYED", 2)
    with database.write() as session:
        for _ in range(4):
            end_a_job(session, account_id)  # nobody subscribes yet
        began = now(session) - timedelta(hours=1)
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        events.test(session, endpoint)  # of a type that is not subscribed to
        end_a_job(session, account_id)
        end_a_job(session, account_id)
        *_, last = session.scalars(select(Event.id).where(Event.type == "job.ended").order_by(Event.id)).all()
        arrived = next(held for held in lease(session, endpoint) if held.event_id == last)
        deliveries.record(session, [answered(arrived, 204)], SCHEDULE)
        counts, after = [], None
        while True:
            done = replays.replay_range(session, endpoint, began, None, after=after)
            counts.append(done.count)
            after = done.last
            if not done.has_more:
                break
        assert counts == [2, 2]
        assert replays.replay_range(session, endpoint, began, None).count == 0
        assert replays.replay_range(session, endpoint, began, None, delivered=True).count == 1
        assert replays.replay_range(session, endpoint, began, began).count == 0
        assert replays.replay_range(session, endpoint, now(session) + DAY, None).count == 0
        assert {held.type for held in lease(session, endpoint)} == {"job.ended"}
