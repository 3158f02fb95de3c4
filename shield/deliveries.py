"""Deliveries: what is owed to an endpoint is leased, its tries are recorded, and it is tried again by the schedule.

A lease's token fences: who has lost it writes nothing. Nothing here speaks to an endpoint: worker.deliver does, between
two transactions.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, cast

from sqlalchemy import Integer, RowMapping, Table, bindparam, exists, insert, select, update
from sqlalchemy.orm import Session

from shield import endpoints
from shield.db import new_id, now
from shield.errors import NotFound
from shield.models import Attempt, Delivery, Endpoint, Event
from shield.states import DeliveryState, DisabledReason, EventType, sources

ANSWER_BYTES = 4096  # of an answer's body that are kept
JITTER = 0.2  # of a wait, either way: what failed together is not tried again together
LONGEST_WAIT = timedelta(hours=24)  # that an endpoint may ask for by Retry-After
DUE_ENDPOINTS = 1000  # looked at in one turn

DELIVERY, EVENT, ENDPOINT, ATTEMPT = (cast("Table", each.__table__) for each in (Delivery, Event, Endpoint, Attempt))
HELD = (
    select(*DELIVERY.c["id", "account_id", "lease_token", "attempts", "endpoint_id", "event_id"])
    .add_columns(*EVENT.c["type", "sequence", "data", "created_at"])
    .add_columns(*ENDPOINT.c["failing_since", "url", "secret", "old_secret", "old_secret_until"])
    .join(EVENT, EVENT.c.id == DELIVERY.c.event_id)
    .join(ENDPOINT, ENDPOINT.c.id == DELIVERY.c.endpoint_id)
)
DUE = (
    select(DELIVERY.c.id)
    .where(DELIVERY.c.endpoint_id == bindparam("this_endpoint"), DELIVERY.c.next_at <= bindparam("moment"))
    .where(exists().where(ENDPOINT.c.id == bindparam("this_endpoint"), ENDPOINT.c.disabled_at.is_(None)))
    .order_by(DELIVERY.c.next_at, DELIVERY.c.id)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
    .cte()
)
TAKE = (
    update(DELIVERY)
    .where(DELIVERY.c.id.in_(select(DUE.c.id)), DELIVERY.c.state.in_(sources(DeliveryState.SENDING)))
    .values(
        state=DeliveryState.SENDING,
        next_at=None,
        attempts=DELIVERY.c.attempts + 1,
        lease_token=bindparam("token"),
        lease_until=bindparam("until"),
    )
    .returning(DELIVERY.c.id)
)
FENCE = (  # the rows stay locked until the commit
    select(DELIVERY.c.id, DELIVERY.c.lease_token)
    .where(DELIVERY.c.state == DeliveryState.SENDING)
    .order_by(DELIVERY.c.id)
    .with_for_update()
)
SETTLE = (
    update(DELIVERY)
    .where(DELIVERY.c.id == bindparam("this_delivery"), DELIVERY.c.state == DeliveryState.SENDING)
    .values(
        state=bindparam("becomes"),
        next_at=bindparam("next"),
        ended_at=bindparam("ended"),
        lease_token=None,
        lease_until=None,
    )
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a delivery is tried again, in seconds from try to try, and when an endpoint counts as dead."""

    retry_seconds: Sequence[float]
    disable_days: float


@dataclass(frozen=True, slots=True)
class DueEndpoint:
    """An endpoint to which something is owed now."""

    id: str
    account_id: str
    failing: bool
    disabled: bool


@dataclass(frozen=True, slots=True)
class Leased:
    """A delivery that the house holds, and all that it takes to make a try of it."""

    id: str
    token: str
    number: int  # of the try, from 1
    account_id: str
    endpoint_id: str
    failing: bool
    url: str
    secrets: tuple[bytes, ...]  # as they are sealed; what signs, the newest first
    event_id: str
    type: str
    sequence: int
    data: dict[str, Any]
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class Try:
    """How a try ended: with an answer, or with an error; and how long the endpoint asks to be left alone."""

    delivery: Leased
    latency_ms: int | None
    status: int | None = None
    error: str | None = None
    answer: str = ""
    retry_after: timedelta = timedelta()

    @property
    def arrived(self) -> bool:
        """Whether it was answered 2xx."""
        return self.status is not None and self.status // 100 == HTTPStatus.OK // 100


def due_endpoints(session: Session, after: str = "") -> list[DueEndpoint]:
    """Endpoints to which something is owed now: first those that do not fail, and of each kind from `after` on."""
    owed = select(Delivery.id).where(Delivery.endpoint_id == Endpoint.id, Delivery.next_at <= now(session))
    failing, disabled = Endpoint.failing_since.is_not(None), Endpoint.disabled_at.is_not(None)
    query = select(Endpoint.id, Endpoint.account_id, failing.label("failing"), disabled.label("disabled"))
    query = query.where(owed.exists()).order_by(failing, Endpoint.id <= after, Endpoint.id).limit(DUE_ENDPOINTS)
    rows = session.execute(query)
    return [DueEndpoint(row.id, row.account_id, bool(row.failing), bool(row.disabled)) for row in rows]


def lease(session: Session, wanted: Mapping[str, int], seconds: float) -> list[Leased]:
    """Take what is owed to these endpoints and has waited longest, up to so many of each, for tries begun at once."""
    moment, token = now(session), new_id("lse")
    until = moment + timedelta(seconds=seconds)
    taken: list[str] = []
    for endpoint_id, limit in sorted(wanted.items()):
        given = {"this_endpoint": endpoint_id, "most": limit, "moment": moment, "token": token, "until": until}
        taken += session.scalars(TAKE, given)
    if not taken:
        return []
    rows = session.execute(HELD.where(DELIVERY.c.id.in_(taken)).order_by(EVENT.c.account_id, EVENT.c.sequence))
    return [_leased(row, moment) for row in rows.mappings()]


def _leased(row: RowMapping, moment: datetime) -> Leased:
    still = row["old_secret_until"] is not None and row["old_secret_until"] > moment
    return Leased(
        id=row["id"],
        token=row["lease_token"],
        number=row["attempts"],
        account_id=row["account_id"],
        endpoint_id=row["endpoint_id"],
        failing=row["failing_since"] is not None,
        url=row["url"],
        secrets=(row["secret"], row["old_secret"]) if still else (row["secret"],),
        event_id=row["event_id"],
        type=row["type"],
        sequence=row["sequence"],
        data=row["data"],
        happened_at=row["created_at"],
    )


def record(session: Session, tries: Sequence[Try], schedule: Schedule) -> int:
    """Write how tries ended and what comes of them; how many. Nothing is written of one whose lease was lost.

    An endpoint that answers 410 is disabled, and so is one whose every try has failed for so many days.
    """
    written = _settle(session, tries, schedule)
    of_endpoint: defaultdict[str, list[Try]] = defaultdict(list)
    for tried in written:
        of_endpoint[tried.delivery.endpoint_id].append(tried)
    query = select(Endpoint).where(Endpoint.id.in_(of_endpoint)).order_by(Endpoint.id)
    query = query.with_for_update(key_share=True)  # whoever owes something to one of them meanwhile does not wait
    for endpoint in session.scalars(query, execution_options={"populate_existing": True}).all():
        _judge(session, endpoint, of_endpoint[endpoint.id], schedule)
    return len(written)


def _judge(session: Session, endpoint: Endpoint, tries: Sequence[Try], schedule: Schedule) -> None:
    """Note since when an endpoint has failed, and disable one that is gone or dead."""
    moment, last = now(session), tries[-1]
    failed = not any(tried.arrived for tried in tries)
    endpoint.failing_since = (endpoint.failing_since or moment) if failed else None
    if any(tried.status == HTTPStatus.GONE for tried in tries):
        endpoints.disable(session, endpoint, DisabledReason.GONE, "it answered 410 Gone")
    elif endpoint.failing_since and endpoint.failing_since <= moment - timedelta(days=schedule.disable_days):
        why = last.error or f"it answered {last.status}"
        detail = f"every try has failed since {endpoint.failing_since:%F %T} UTC; the last one: {why}"
        endpoints.disable(session, endpoint, DisabledReason.FAILING, detail)
    session.flush()


def sweep(session: Session, schedule: Schedule, limit: int = 100) -> int:
    """Take back deliveries whose lease ran out: their try counts, and its endpoint is not blamed. How many."""
    moment = now(session)
    rows = session.execute(HELD.where(DELIVERY.c.lease_until <= moment).limit(limit)).mappings()
    detail = "the process that made this try ended before it was recorded: it may have arrived"
    lost = [Try(_leased(row, moment), None, error=detail) for row in rows]
    return len(_settle(session, lost, schedule))


def drop(session: Session, endpoint_id: str, limit: int) -> int:
    """Drop what is due to an endpoint that is disabled, up to `limit`; how many."""
    moment = now(session)
    disabled = select(Endpoint.id).where(Endpoint.id == endpoint_id, Endpoint.disabled_at.is_not(None)).exists()
    due = select(Delivery.id).where(Delivery.endpoint_id == endpoint_id, Delivery.next_at <= moment, disabled)
    found = due.order_by(Delivery.next_at).limit(limit).with_for_update(skip_locked=True, of=Delivery).cte()
    dropped = session.scalars(
        update(Delivery)
        .where(Delivery.id.in_(select(found.c.id)), Delivery.state.in_((DeliveryState.PENDING, DeliveryState.WAITING)))
        .values(state=DeliveryState.DROPPED, next_at=None, ended_at=moment)
        .returning(Delivery.id),
        execution_options={"synchronize_session": False},
    )
    return len(dropped.all())


def _settle(session: Session, tries: Sequence[Try], schedule: Schedule) -> list[Try]:
    """The one door by which tries are recorded: three statements, however many. Those whose lease was not lost."""
    ids = [tried.delivery.id for tried in tries]
    rows = session.execute(FENCE.where(DELIVERY.c.id.in_(ids))).all() if tries else []
    held = {(row.id, row.lease_token) for row in rows}
    written = [tried for tried in tries if (tried.delivery.id, tried.delivery.token) in held]
    if written:
        moment = now(session)
        session.execute(SETTLE, [_outcome(tried, schedule, moment) for tried in written])
        attempts = [
            {
                "delivery_id": tried.delivery.id,
                "number": tried.delivery.number,
                "account_id": tried.delivery.account_id,
                "ended_at": moment,
                "latency_ms": tried.latency_ms,
                "status": tried.status,
                "error": tried.error[:1000] if tried.error else None,
                "answer": tried.answer,
            }
            for tried in written
        ]
        session.execute(insert(ATTEMPT), attempts)
    return written


def _outcome(tried: Try, schedule: Schedule, moment: datetime) -> dict[str, object]:
    """What becomes of a delivery after this try."""
    number, state, wait = tried.delivery.number, DeliveryState.WAITING, None
    if tried.arrived:
        state = DeliveryState.DELIVERED
    elif tried.status == HTTPStatus.GONE:
        state = DeliveryState.DROPPED
    elif number > len(schedule.retry_seconds):
        state = DeliveryState.EXHAUSTED
    else:
        jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - nobody gains by guessing it
        wait = max(timedelta(seconds=schedule.retry_seconds[number - 1] * jitter), min(tried.retry_after, LONGEST_WAIT))
    return {
        "this_delivery": tried.delivery.id,
        "becomes": state,
        "next": None if wait is None else moment + wait,
        "ended": moment if wait is None else None,
    }


def of_endpoint(
    session: Session,
    endpoint: Endpoint,
    limit: int,
    after: str | None = None,
    state: DeliveryState | None = None,
    kind: EventType | None = None,
) -> list[tuple[Delivery, Event]]:
    """What was and is owed to an endpoint, the newest first, from the one after `after` on, each with its event."""
    query = select(Delivery, Event).join(Event, Event.id == Delivery.event_id)
    query = query.where(Delivery.account_id == endpoint.account_id, Delivery.endpoint_id == endpoint.id)
    if after is not None:
        query = query.where(Delivery.id < after)
    if state is not None:
        query = query.where(Delivery.state == state)
    if kind is not None:
        query = query.where(Event.type == kind)
    return [(row[0], row[1]) for row in session.execute(query.order_by(Delivery.id.desc()).limit(limit))]


def get(session: Session, account_id: str, endpoint_id: str, delivery_id: str) -> tuple[Delivery, Event]:
    """A delivery to this endpoint of the account, with its event. Raises NotFound."""
    endpoint = endpoints.get(session, account_id, endpoint_id)
    query = select(Delivery, Event).join(Event, Event.id == Delivery.event_id)
    query = query.where(Delivery.id == delivery_id, Delivery.account_id == account_id)
    found = session.execute(query.where(Delivery.endpoint_id == endpoint.id)).first()
    if found is None:
        raise NotFound(f"no delivery {delivery_id} to {endpoint_id}")
    return found[0], found[1]


def attempts(session: Session, delivery: Delivery) -> list[Attempt]:
    """The tries of a delivery that were recorded, in their order."""
    tries = select(Attempt).where(Attempt.delivery_id == delivery.id, Attempt.account_id == delivery.account_id)
    return list(session.scalars(tries.order_by(Attempt.number)))
