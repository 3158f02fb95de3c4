"""Small steps that tests of webhooks share: an endpoint, an event, a try."""

from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shield import deliveries, dispatch, endpoints
from shield.db import now
from shield.deliveries import Leased, Schedule, Try
from shield.models import Delivery, Endpoint, Event, Job
from shield.secret import Seal
from shield.states import EventType
from tests.shield.work import scanned, submit, take

SEAL = Seal("a secret key")
SCHEDULE = Schedule((5.0, 300.0), disable_days=5.0)
URL = "https://acme.example/hook"
ALL = [kind for kind in EventType if kind != EventType.ENDPOINT_TEST]


def subscribe(session: Session, account_id: str, *kinds: EventType) -> Endpoint:
    return endpoints.create(session, account_id, SEAL, URL, kinds or ALL)[0]


def end_a_job(session: Session, account_id: str) -> Job:
    job = submit(session, account_id, 1)
    held = take(session)
    assert dispatch.record(session, held, [scanned(item.id) for item in held.items])
    session.refresh(job)
    return job


def lease(session: Session, endpoint: Endpoint, limit: int = 10) -> list[Leased]:
    return deliveries.lease(session, {endpoint.id: limit}, 60.0)


def answered(held: Leased, status: int, retry_after: float = 0.0) -> Try:
    return Try(held, 12, status=status, answer="words", retry_after=timedelta(seconds=retry_after))


def hasten(session: Session) -> None:
    """Let the next try of everything be due."""
    session.execute(update(Delivery).where(Delivery.next_at.is_not(None)).values(next_at=now(session)))


def states(session: Session) -> list[str]:
    return list(session.scalars(select(Delivery.state).order_by(Delivery.id)))


def types(session: Session) -> list[str]:
    return list(session.scalars(select(Event.type).order_by(Event.sequence)))
