"""What is asked about webhooks again and again is answered by an index, on both databases."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from shield import deliveries, endpoints, events, replays, retention
from shield.db import Database, now
from shield.models import Endpoint
from shield.states import EventType
from tests.shield.post import SCHEDULE, answered, end_a_job, lease, subscribe
from tests.shield.test_plans import SORT, explained, noted

AFTER = "dlv_" + "f" * 27
WHOLE = re.compile(r"SCAN (delivery|event|attempt|notice)\b(?!.* USING )|Seq Scan on (delivery|event|attempt|notice)\b")
PAGES: dict[str, tuple[Callable[[Session, Endpoint], object], str]] = {
    "what is due": (lambda session, endpoint: deliveries.due_endpoints(session), "ix_delivery_due"),
    "the next deliveries": (lease, "ix_delivery_due"),
    "what is dropped": (lambda session, endpoint: deliveries.drop(session, endpoint.id, 10), "ix_delivery_due"),
    "leases that ran out": (lambda session, endpoint: deliveries.sweep(session, SCHEDULE), "ix_delivery_lease_until"),
    "a page of deliveries": (
        lambda session, endpoint: deliveries.of_endpoint(session, endpoint, 20, AFTER),
        "ix_delivery_account_id_endpoint_id_id",
    ),
    "a page of notices": (
        lambda session, endpoint: endpoints.notices(session, endpoint.account_id, endpoint.id, 20),
        "ix_notice_account_id_endpoint_id_id",
    ),
    "who subscribes": (
        lambda session, endpoint: events.items_ended(session, endpoint.account_id, [], []),
        "ix_endpoint_account_id_id",
    ),
    "a replay of a time range": (
        lambda session, endpoint: replays.replay_range(session, endpoint, now(session) - timedelta(hours=1), None),
        "ix_event_account_id_id",
    ),
    "events to forget": (lambda session, endpoint: retention.forget_events(session, 0, 100), "ix_event_created_at"),
}
SMALL_SORTS = {"what is due", "the next deliveries"}  # endpoints, and those that were taken by their sequence


@pytest.mark.parametrize("name", PAGES)
def test_a_question_about_webhooks_is_answered_by_an_index(database: Database, account_id: str, name: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id, EventType.JOB_ENDED)
        for _ in range(4):
            end_a_job(session, account_id)
        deliveries.record(session, [answered(held, 204) for held in lease(session, endpoint, 2)], SCHEDULE)
        endpoints.delete(session, account_id, subscribe(session, account_id).id)
        session.execute(
            update(Endpoint).values(deleted_at=now(session) - timedelta(days=2)).where(Endpoint.id != endpoint.id)
        )
    ask, index = PAGES[name]
    with database.write() as session, noted(database) as statements:
        ask(session, endpoint)
    lines = explained(database, statements)
    assert any(re.search(index, line) for line in lines), lines
    assert not [line for line in lines if WHOLE.search(line)], lines
    if name not in SMALL_SORTS:
        assert not [line for line in lines if SORT.search(line)], lines
