"""Replays: events that an account wants to be sent once more, under the ids that they have."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import case, or_, select, update
from sqlalchemy.orm import Session

from shield import events
from shield.db import first_id, now
from shield.errors import NotFound
from shield.models import Delivery, Endpoint, Event
from shield.states import DeliveryState, Trigger

REPLAYED = 1000  # events in one request
SKEW = timedelta(hours=1)  # that the clock of an event's id may differ from the one that says when it happened
EPOCH = datetime(1970, 1, 2, tzinfo=UTC)
ARRIVED = Delivery.state == DeliveryState.DELIVERED


@dataclass(frozen=True, slots=True)
class Replayed:
    """A page of a replay: how many events are owed once more, and up to which event of the range."""

    count: int
    last: str | None
    has_more: bool


def replay(session: Session, endpoint: Endpoint, event_id: str) -> None:
    """Owe an event to an endpoint once more; where it still waits, its next try is due at once. Raises NotFound."""
    known = select(Event.id).where(Event.id == event_id, Event.account_id == endpoint.account_id)
    if session.scalar(known) is None:
        raise NotFound(f"no event {event_id} in this account: events are kept as long as jobs are")
    owed = update(Delivery).where(Delivery.event_id == event_id, Delivery.endpoint_id == endpoint.id)
    owed = owed.where(Delivery.ended_at.is_(None)).values(next_at=case((Delivery.next_at.is_not(None), now(session))))
    if not session.scalars(owed.returning(Delivery.id), execution_options={"synchronize_session": False}).all():
        events.owe(session, endpoint.account_id, [(event_id, endpoint.id)], Trigger.REPLAY)


def replay_range(
    session: Session,
    endpoint: Endpoint,
    since: datetime,
    until: datetime | None,
    *,
    after: str | None = None,
    delivered: bool = False,
) -> Replayed:
    """Owe events of a time range to an endpoint once more, up to REPLAYED of them, the oldest first.

    Those that it subscribes to, that are not owed to it any more, and, unless `delivered`, that never arrived there.
    """
    past = select(Delivery.id).where(Delivery.event_id == Event.id, Delivery.endpoint_id == endpoint.id)
    spared = [Delivery.ended_at.is_(None)] if delivered else [or_(Delivery.ended_at.is_(None), ARRIVED)]
    query = select(Event.id).where(Event.account_id == endpoint.account_id, Event.type.in_(endpoint.events))
    latest = now(session) + SKEW  # nothing has happened after it
    since = min(max(since, EPOCH), latest)
    # The id is what the index knows; the time is what the account was told.
    query = query.where(Event.id > (after or first_id("evt", since - SKEW)), Event.created_at >= since)
    if until is not None:
        until = min(max(until, EPOCH), latest)
        query = query.where(Event.id < first_id("evt", until + SKEW), Event.created_at < until)
    query = query.where(~past.where(*spared).exists())
    ids = session.scalars(query.order_by(Event.id).limit(REPLAYED + 1)).all()
    page = ids[:REPLAYED]
    events.owe(session, endpoint.account_id, [(event_id, endpoint.id) for event_id in page], Trigger.REPLAY)
    return Replayed(len(page), page[-1] if page else None, len(ids) > REPLAYED)
