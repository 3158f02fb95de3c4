"""Events: facts that an account's endpoints are told, written in the transaction in which they happen.

With an event goes a delivery for each endpoint that subscribes to it: what is committed is owed, and nothing else is.
An event is thin; whoever receives it asks for the rest by id.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from shield.db import new_id, now
from shield.models import Account, Case, Delivery, Endpoint, Event, Item, Job
from shield.states import DeliveryState, EventType, Trigger, Verdict

COUNTS = ("total", "done", "failed", "canceled", *Verdict, "rejected")


def job_ended(session: Session, job_id: str, *, canceled: bool) -> None:
    """Note that a job ended: one event, whether or not anybody subscribes, so that it can be replayed later."""
    job = session.execute(select(Job.__table__).where(Job.id == job_id)).mappings().one()
    kind = EventType.JOB_CANCELED if canceled else EventType.JOB_ENDED
    data = {
        "job_id": job_id,
        "name": job["name"],
        "reason": job["reason"],
        "counts": {name: job[name] for name in COUNTS},
        "created_at": job["created_at"].isoformat(),
        "ended_at": job["ended_at"].isoformat(),
        "url": f"/v1/jobs/{job_id}",
    }
    takers = [endpoint for endpoint, kinds in _subscriptions(session, job["account_id"]) if kind in kinds]
    _write(session, job["account_id"], kind, [data], takers)


def items_ended(session: Session, account_id: str, flagged: Sequence[str], failed: Sequence[str]) -> None:
    """Note which items of a job were found fake or suspect, and which failed; nothing where nobody subscribes."""
    subscriptions = _subscriptions(session, account_id)
    for kind, ids in ((EventType.ITEM_FLAGGED, flagged), (EventType.ITEM_FAILED, failed)):
        takers = [endpoint for endpoint, kinds in subscriptions if kind in kinds]
        if takers and ids:
            items = session.execute(select(Item.__table__).where(Item.id.in_(ids)).order_by(Item.ordinal)).mappings()
            rows = [dict(item) for item in items]
            # Locks are taken in one order, and the account's counter comes after the job.
            session.execute(select(Job.id).where(Job.id == rows[0]["job_id"]).with_for_update())
            _write(session, account_id, kind, [_told(row) for row in rows], takers)


def cases_changed(session: Session, account_id: str, kind: EventType, case_ids: Sequence[str]) -> None:
    """Note which cases were decided, or reopened; nothing where nobody subscribes."""
    takers = [endpoint for endpoint, kinds in _subscriptions(session, account_id) if kind in kinds]
    if not takers:
        return
    query = select(Case, Item.custom_id).join(Item, Item.id == Case.item_id).where(Case.id.in_(case_ids))
    found = session.execute(query.order_by(Case.id), execution_options={"populate_existing": True})
    _write(session, account_id, kind, [_told_case(row, custom_id) for row, custom_id in found], takers)


def test(session: Session, endpoint: Endpoint) -> Delivery:
    """Owe an endpoint an event that says nothing, for its account to see whether it arrives."""
    data = {"webhook_id": endpoint.id, "url": f"/v1/webhooks/{endpoint.id}"}
    [delivery_id] = _write(session, endpoint.account_id, EventType.ENDPOINT_TEST, [data], [endpoint.id])
    return session.get_one(Delivery, delivery_id)


def _told(item: dict[str, Any]) -> dict[str, Any]:
    told = {"item_id": item["id"], "job_id": item["job_id"], "custom_id": item["custom_id"]}
    if item["error_code"] is not None:
        told["error"] = {"code": item["error_code"], "detail": item["error_detail"]}
    else:
        told |= {"verdict": item["verdict"], "score": item["score"]}
    return told | {"url": f"/v1/items/{item['id']}"}


def _told_case(row: Case, custom_id: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {"case_id": row.id, "item_id": row.item_id, "job_id": row.job_id, "custom_id": custom_id}
    if row.decided_at is not None:
        told |= {"answer": row.answer, "decided_at": row.decided_at.isoformat()}
    return told | {"verdict": row.verdict, "score": row.score, "url": f"/v1/cases/{row.id}"}


def _subscriptions(session: Session, account_id: str) -> list[tuple[str, list[str]]]:
    """The account's endpoints that are sent anything, with the types of events that they are sent."""
    query = select(Endpoint.id, Endpoint.events).where(Endpoint.account_id == account_id)
    rows = session.execute(query.where(Endpoint.disabled_at.is_(None), Endpoint.deleted_at.is_(None)))
    return [(row.id, row.events) for row in rows]


def _write(
    session: Session, account_id: str, kind: EventType, facts: Sequence[dict[str, Any]], takers: Sequence[str]
) -> list[str]:
    """Write an event for each of these facts, and what is owed to whom; the ids of the deliveries."""
    counter = update(Account).where(Account.id == account_id).values(events=Account.events + len(facts))
    last = session.scalars(counter.returning(Account.events), execution_options={"synchronize_session": False}).one()
    moment = now(session)
    events = [
        {
            "id": new_id("evt"),
            "account_id": account_id,
            "type": kind,
            "sequence": last - len(facts) + number,
            "data": fact,
            "created_at": moment,
        }
        for number, fact in enumerate(facts, 1)
    ]
    session.execute(insert(Event), events)
    return owe(session, account_id, [(str(event["id"]), taker) for event in events for taker in takers], Trigger.EVENT)


def owe(session: Session, account_id: str, pairs: Sequence[tuple[str, str]], trigger: Trigger) -> list[str]:
    """Owe each of these events to the endpoint beside it, from now on; the ids of the deliveries."""
    moment = now(session)
    rows = [
        {
            "id": new_id("dlv"),
            "account_id": account_id,
            "event_id": event_id,
            "endpoint_id": endpoint_id,
            "trigger": trigger,
            "state": DeliveryState.PENDING,
            "next_at": moment,
            "created_at": moment,
        }
        for event_id, endpoint_id in pairs
    ]
    if rows:
        session.execute(insert(Delivery), rows)
    return [str(row["id"]) for row in rows]
