"""Replays: events that an account wants to be sent once more, under the ids that they have."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from shield import events
from shield.db import first_id, now
from shield.errors import NotFound
from shield.models import Delivery, Endpoint, Event
from shield.states import DeliveryState, Trigger

REPLAYED = 1000  # events in one request
ARRIVED = Delivery.state == DeliveryState.DELIVERED


@dataclass(frozen=True, slots=True)
class Replayed:
    """A page of a replay: how many events are owed once more, and up to which event of the range."""

    count: int
    last: str | None
    has_more: bool


def replay(session: Session, endpoint: Endpoint, event_id: str) -> None:
    """Owe an event to an endpoint once more; where it still is owed, its next try is due at once. Raises NotFound."""
    known = select(Event.id).where(Event.id == event_id, Event.account_id == endpoint.account_id)
    if session.scalar(known) is None:
        raise NotFound(f"no event {event_id} in this account: events are kept as long as jobs are")
    live = update(Delivery).where(Delivery.event_id == event_id, Delivery.endpoint_id == endpoint.id)
    hastened = session.scalars(
        live.where(Delivery.next_at.is_not(None)).values(next_at=now(session)).returning(Delivery.id),
        execution_options={"synchronize_session": False},
    ).all()
    if not hastened:
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
    query = query.where(Event.id >= (after or first_id("evt", since)), ~past.where(*spared).exists())
    if after is not None:
        query = query.where(Event.id != after)
    if until is not None:
        query = query.where(Event.id < first_id("evt", until))
    ids = session.scalars(query.order_by(Event.id).limit(REPLAYED + 1)).all()
    page = ids[:REPLAYED]
    events.owe(session, endpoint.account_id, [(event_id, endpoint.id) for event_id in page], Trigger.REPLAY)
    return Replayed(len(page), page[-1] if page else None, len(ids) > REPLAYED)
