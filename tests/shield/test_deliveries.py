"""What is owed is leased, tried, tried again, and ends; nothing is sent here."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from shield import audit, deliveries, endpoints, events, retention
from shield.audit import Action
from shield.db import Database, now
from shield.deliveries import Try
from shield.errors import NotFound
from shield.models import Attempt, AuditEntry, Delivery, Endpoint, Event, Notice
from shield.states import DeliveryState, DisabledReason, EventType
from tests.shield.post import SCHEDULE, SEAL, answered, end_a_job, hasten, lease, states, subscribe

DAY = timedelta(days=1)


def test_what_is_leased_is_nobody_elses(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        for _ in range(3):
            end_a_job(session, account_id)
        first, rest = lease(session, endpoint, 2), lease(session, endpoint)
        assert [held.sequence for held in first + rest] == [1, 2, 3]
        assert lease(session, endpoint) == []
        assert states(session) == ["sending"] * 3
        assert deliveries.due_endpoints(session) == []


def test_an_answer_of_2xx_delivers_and_anything_else_is_tried_again_until_the_schedule_ends(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        end_a_job(session, account_id)
        for statuses in ((500, 302), (204, 429), (None,)):
            hasten(session)
            for held, status in zip(lease(session, endpoint), statuses, strict=True):
                tried = answered(held, status) if status else Try(held, 5, error="timed out")
                assert deliveries.record(session, [tried], SCHEDULE)
        assert states(session) == ["delivered", "exhausted"]
        rows = session.execute(select(Attempt.number, Attempt.status, Attempt.error).order_by(Attempt.delivery_id))
        assert sorted(rows.all(), key=str) == sorted(
            [(1, 500, None), (2, 204, None), (1, 302, None), (2, 429, None), (3, None, "timed out")], key=str
        )
        assert deliveries.due_endpoints(session) == []


@pytest.mark.parametrize(("asked", "least", "most"), [(0, 4.0, 6.0), (1000, 1000, 1000), (3, 4.0, 6.0)])
def test_a_wait_is_that_of_the_schedule_with_some_jitter_or_longer_where_it_is_asked_for(
    database: Database, account_id: str, asked: int, least: float, most: float
) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        [held] = lease(session, endpoint)
        before = now(session)
        deliveries.record(session, [answered(held, 503, asked)], SCHEDULE)
        after = now(session)
        waiting = session.scalars(select(Delivery.next_at)).one()
        assert waiting is not None
        assert before + timedelta(seconds=least) <= waiting <= after + timedelta(seconds=most)


def test_nobody_has_an_event_put_off_for_more_than_a_day(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        [held] = lease(session, endpoint)
        deliveries.record(session, [answered(held, 503, 10**9)], SCHEDULE)
        waiting = session.scalars(select(Delivery.next_at)).one()
        assert waiting is not None
        assert waiting <= now(session) + DAY


def test_who_has_lost_the_lease_writes_nothing(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        [late] = deliveries.lease(session, {endpoint.id: 1}, -1.0)
        assert deliveries.sweep(session, SCHEDULE) == 1
        assert states(session) == ["waiting"]
        hasten(session)
        [held] = lease(session, endpoint)
        assert held.number == 2
        assert not deliveries.record(session, [answered(late, 204)], SCHEDULE)
        assert not deliveries.record(session, [answered(late, 410)], SCHEDULE)
        assert states(session) == ["sending"]
        assert deliveries.record(session, [answered(held, 204)], SCHEDULE)
        assert not deliveries.record(session, [answered(held, 500)], SCHEDULE)
        assert states(session) == ["delivered"]
        assert session.scalars(select(Endpoint.disabled_at)).one() is None
        errors = session.scalars(select(Attempt.error).order_by(Attempt.number)).all()
    assert errors[0] is not None
    assert "may have arrived" in errors[0]
    assert errors[1:] == [None]


def test_a_lease_that_runs_out_at_the_last_try_exhausts_and_blames_nobody(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        for _ in range(3):
            hasten(session)
            deliveries.lease(session, {endpoint.id: 1}, -1.0)
            deliveries.sweep(session, SCHEDULE)
        assert states(session) == ["exhausted"]
        assert session.scalars(select(Endpoint.failing_since)).one() is None


def test_410_disables_the_endpoint_and_what_else_is_owed_is_dropped_when_it_comes_due(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        for _ in range(3):
            end_a_job(session, account_id)
        [held] = lease(session, endpoint, 1)
        deliveries.record(session, [answered(held, 410)], SCHEDULE)
        assert [due.disabled for due in deliveries.due_endpoints(session)] == [True]
        assert deliveries.drop(session, endpoint.id, 1) == 1
        assert sorted(states(session)) == ["dropped", "dropped", "pending"]
        assert deliveries.drop(session, endpoint.id, 10) == 1
        end_a_job(session, account_id)
        assert states(session) == ["dropped"] * 3
        row = endpoints.get(session, account_id, endpoint.id)
        assert row.disabled_reason == "gone"
        notice = session.scalars(select(Notice).where(Notice.code == "disabled")).one()
        assert "410" in notice.detail


def test_what_is_owed_to_an_enabled_endpoint_is_not_dropped(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        assert deliveries.drop(session, endpoint.id, 10) == 0
        assert states(session) == ["pending"]


def test_an_endpoint_that_fails_for_five_days_is_disabled_with_a_notice_and_an_audit_entry(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        for days, disabled in ((0.0, False), (4.9, False), (5.1, True)):
            session.execute(update(Endpoint).values(failing_since=now(session) - days * DAY if days else None))
            end_a_job(session, account_id)
            hasten(session)
            held = lease(session, endpoint)[-1]
            deliveries.record(session, [Try(held, 5, error="the connection failed")], SCHEDULE)
            row = endpoints.get(session, account_id, endpoint.id)
            assert (row.disabled_at is not None) == disabled
            assert row.failing_since is not None
        notice = session.scalars(select(Notice).where(Notice.code == "disabled")).one()
        assert row.disabled_reason == "failing"
        assert "the connection failed" in notice.detail
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == Action.WEBHOOK_DISABLED)).one()
        assert (entry.actor, entry.account_id, entry.target) == (audit.HOUSE, account_id, endpoint.id)
        assert entry.detail == '{"reason": "failing"}'


def test_one_arrival_ends_the_count_of_days(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        for status in (500, 200):
            end_a_job(session, account_id)
            held = lease(session, endpoint)[-1]
            deliveries.record(session, [answered(held, status)], SCHEDULE)
            session.execute(update(Delivery).where(Delivery.state == "waiting").values(next_at=now(session) + DAY))
        session.refresh(endpoint)
        assert endpoint.failing_since is None


def test_both_secrets_sign_until_the_overlap_ends(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint, old = endpoints.create(session, account_id, SEAL, "https://acme.example", [EventType.JOB_ENDED])
        new = endpoints.rotate(session, account_id, endpoint.id, SEAL)
        for wanted in ([new, old], [new]):
            end_a_job(session, account_id)
            [held] = lease(session, endpoint)
            assert [SEAL.open(secret, held.endpoint_id) for secret in held.secrets] == wanted
            session.execute(update(Endpoint).values(old_secret_until=now(session)))


def test_due_endpoints_are_those_to_which_something_is_owed_now(database: Database, account_id: str) -> None:
    with database.write() as session:
        owed, _, later = (subscribe(session, account_id, EventType.JOB_ENDED) for _ in range(3))
        end_a_job(session, account_id)
        session.execute(update(Delivery).where(Delivery.endpoint_id != owed.id).values(next_at=now(session) + DAY))
        session.execute(update(Endpoint).where(Endpoint.id == owed.id).values(failing_since=now(session)))
        [due] = deliveries.due_endpoints(session)
        assert (due.id, due.failing, due.disabled) == (owed.id, True, False)
        assert lease(session, later) == []


def test_nothing_is_leased_for_an_endpoint_that_is_disabled(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        endpoints.disable(session, endpoint, DisabledReason.BY_ACCOUNT, "between two looks")
        assert lease(session, endpoint) == []
        endpoints.enable(session, account_id, endpoint.id)
        assert len(lease(session, endpoint)) == 1


@pytest.mark.parametrize("dialect", ["postgresql"])  # on SQLite one transaction at a time writes
def test_recording_a_try_does_not_wait_for_whoever_owes_more_to_its_endpoint(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        [held] = lease(session, endpoint)
    with database.write() as other:
        events.test(other, endpoint)
        with database.write() as session:
            assert deliveries.record(session, [answered(held, 500)], SCHEDULE) == 1


def test_deliveries_are_listed_newest_first_by_state_and_type(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint, other = subscribe(session, account_id), subscribe(session, account_id)
        end_a_job(session, account_id)
        [flagged, ended] = lease(session, endpoint)
        deliveries.record(session, [answered(flagged, 204)], SCHEDULE)
        listed = deliveries.of_endpoint(session, endpoint, 10)
        assert sorted(row.id for row, _ in listed) == sorted([flagged.id, ended.id])
        assert [row.id for row, _ in listed] == sorted((row.id for row, _ in listed), reverse=True)
        assert [row.id for row, _ in deliveries.of_endpoint(session, endpoint, 10, listed[0][0].id)] == [
            listed[1][0].id
        ]
        for state, kind, found in (
            (DeliveryState.DELIVERED, None, [flagged.id]),
            (None, EventType.JOB_ENDED, [ended.id]),
            (DeliveryState.DELIVERED, EventType.JOB_ENDED, []),
        ):
            assert [row.id for row, _ in deliveries.of_endpoint(session, endpoint, 10, state=state, kind=kind)] == found
        row, event = deliveries.get(session, account_id, endpoint.id, flagged.id)
        assert (row.id, event.type) == (flagged.id, EventType.ITEM_FLAGGED)
        assert [each.answer for each in deliveries.attempts(session, row)] == ["words"]
        with pytest.raises(NotFound, match="no delivery"):
            deliveries.get(session, account_id, other.id, flagged.id)


def test_events_are_forgotten_when_they_are_old_and_owed_to_nobody(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        end_a_job(session, account_id)
        held, _ = lease(session, endpoint)
        deliveries.record(session, [answered(held, 204)], SCHEDULE)
        assert retention.forget_events(session, 1.0, 100) == 0
        session.execute(update(Event).values(created_at=now(session) - 2 * DAY))
        assert retention.forget_events(session, 1.0, 100) == 1
        assert states(session) == ["sending"]
        assert session.scalar(select(func.count()).select_from(Attempt)) == 0
        assert session.scalars(select(Event.id)).one() != held.event_id


def test_a_deleted_endpoint_goes_with_the_last_event_that_was_sent_to_it(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        endpoints.delete(session, account_id, endpoint.id)
        session.execute(update(Endpoint).values(deleted_at=now(session) - 2 * DAY))
        retention.forget_events(session, 1.0, 100)
        assert session.scalar(select(func.count()).select_from(Endpoint)) == 1
        assert deliveries.drop(session, endpoint.id, 10) == 1
        session.execute(update(Event).values(created_at=now(session) - 2 * DAY))
        for _ in range(2):
            retention.forget_events(session, 1.0, 100)
        for table in (Endpoint, Notice, Delivery, Event):
            assert session.scalar(select(func.count()).select_from(table)) == 0


def test_a_disabled_endpoint_keeps_what_is_not_due_yet(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        end_a_job(session, account_id)
        [held] = lease(session, endpoint)
        deliveries.record(session, [answered(held, 500)], SCHEDULE)
        endpoints.disable(session, endpoint, DisabledReason.BY_ACCOUNT, "for a moment")
        assert deliveries.drop(session, endpoint.id, 10) == 0
        endpoints.enable(session, account_id, endpoint.id)
        hasten(session)
        assert [again.id for again in lease(session, endpoint)] == [held.id]
