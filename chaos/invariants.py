"""The invariants of the rows, checked by SQL: those that hold at every moment, and those that hold in the end.

Triggers of our own note what no look at the rows can show afterwards: that a terminal row was changed or deleted, that
a count ran backwards, that a job ended more than once.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from benchmarks.stub import CARD, StubScanner
from chaos.programs import POISON
from shield.db import Database
from shield.models import Item
from shield.policy import FaceFacts, Origin, Policy, judge

ITEM_ENDED = "old.state in ('done', 'failed', 'canceled')"
JOB_CHANGED = " or ".join(
    ["old.state = 'ended'", *(f"new.{count} < old.{count}" for count in ("total", "done", "failed", "canceled"))]
)
WATCHED = (  # name, table, event, when
    ("item_changed", "item", "update", ITEM_ENDED),
    ("item_deleted", "item", "delete", "1 = 1"),
    ("job_changed", "job", "update", JOB_CHANGED),
    ("job_ended", "job", "update", "old.state <> 'ended' and new.state = 'ended'"),
)
# Each gives an id a violation. They are single statements, so that each sees one moment.
ALWAYS = {
    "I3 the counts of a job are those of its items": """
        select job.id from job left join (
            select job_id, count(*) as total,
                sum(case when state = 'done' then 1 else 0 end) as done,
                sum(case when state = 'failed' then 1 else 0 end) as failed,
                sum(case when state = 'canceled' then 1 else 0 end) as canceled
            from item group by job_id) as held on held.job_id = job.id
        where job.total <> coalesce(held.total, 0) or job.done <> coalesce(held.done, 0)
            or job.failed <> coalesce(held.failed, 0) or job.canceled <> coalesce(held.canceled, 0)""",
    "I2 an item stands as its chunk does": """
        select item.id from item join chunk on chunk.id = item.chunk_id join job on job.id = item.job_id
        where item.state = 'leased' and chunk.state <> 'leased'
            or item.state = 'pending' and chunk.state <> 'ready'
                and not (chunk.state = 'done' and job.state = 'canceling')""",
    "I4 only items that are done have faces": """
        select face.item_id from face join item on item.id = face.item_id where item.state <> 'done'""",
    "I2 what was flagged is a case, and nothing else": """
        select item.id from item join job on job.id = item.job_id
        left join review_case on review_case.item_id = item.id
        where job.deleted_at is null
            and (review_case.id is null) = (coalesce(item.verdict, '') in ('fake', 'suspect'))""",
    # One that is canceling when nothing of it is left is ended by the next transaction: in the end no job is canceling.
    "I7 a job has ended exactly if its items have": """
        select job.id from job where job.state not in ('expanding', 'canceling')
            and (job.state = 'ended') <> (job.done + job.failed + job.canceled = job.total)""",
    "I9 what belongs to a job belongs to its account": """
        select item.id from item join job on job.id = item.job_id where item.account_id <> job.account_id
        union all select chunk.id from chunk join job on job.id = chunk.job_id where chunk.account_id <> job.account_id
        union all select face.item_id from face join item on item.id = face.item_id
            where face.account_id <> item.account_id
        union all select outbox.chunk_id from outbox join chunk on chunk.id = outbox.chunk_id
            where outbox.account_id <> chunk.account_id""",
}
IN_THE_END = {
    "I10 no item waits for ever": "select id from item where state in ('pending', 'leased')",
    "I10 no chunk waits for ever": "select id from chunk where state in ('ready', 'leased')",
    "I10 no job lasts for ever": "select id from job where state <> 'ended'",
    "I1 nothing is owed for ever": "select chunk_id from outbox",
    "I7 an ended job is told once to every webhook": """
        select wanted.job_id from (
            select job.id as job_id, endpoint.id as endpoint_id from job
            join endpoint on endpoint.account_id = job.account_id where job.state = 'ended') as wanted
        left join (
            select {job} as job_id, delivery.endpoint_id from event
            join delivery on delivery.event_id = event.id and delivery.trigger = 'event') as told
        on told.job_id = wanted.job_id and told.endpoint_id = wanted.endpoint_id
        group by wanted.job_id, wanted.endpoint_id having count(told.job_id) <> 1""",
    "I10 no webhook is owed for ever": "select id from delivery where state <> 'delivered'",
}
JOB_OF_EVENT = {"sqlite": "json_extract(event.data, '$.job_id')", "postgresql": "event.data ->> 'job_id'"}
CHANGES = {
    "I2 a terminal item was changed": "select id from chaos_note where what in ('item_changed', 'item_deleted')",
    "I3 counts ran backwards, or an ended job was changed": "select id from chaos_note where what = 'job_changed'",
    "I7 a job ended twice": "select id from chaos_note where what = 'job_ended' group by id having count(*) > 1",
}
SOURCES = "select id, state, verdict, score, error_code, coalesce(source_url, source_blob, source_upload) from item"


class Finding(NamedTuple):
    """A promise that was not kept: which, and by which row."""

    promise: str
    row: str


class Outcome(NamedTuple):
    """What became of an item."""

    state: str
    verdict: str | None
    score: float | None
    error: str | None


def watch(database: Database) -> None:
    """Lay the triggers; before the first job."""
    with database.write() as session:
        session.execute(text("create table chaos_note (what varchar(16), id varchar(48))"))
        session.execute(text("create table chaos_probe (n integer)"))
        session.execute(text("insert into chaos_probe values (0)"))
        for name, table, event, when in WATCHED:
            note = f"insert into chaos_note values ('{name}', old.id)"  # noqa: S608 - of the constants above
            if database.is_sqlite:
                session.execute(text(f"create trigger {name} after {event} on {table} when {when} begin {note}; end"))
                continue
            body = f"begin {note}; return null; end"
            session.execute(text(f"create function {name}() returns trigger language plpgsql as $${body}$$"))
            trigger = f"create trigger {name} after {event} on {table} for each row when ({when})"
            session.execute(text(f"{trigger} execute function {name}()"))


def check_always(database: Database) -> list[Finding]:
    """What is violated at this moment. Raises StorageUnavailable."""
    with database.read() as session:
        return [*_violations(session, ALWAYS), *_violations(session, CHANGES)]


def check_end(database: Database) -> list[Finding]:
    """What is violated once all work should be done. Raises StorageUnavailable."""
    with database.read() as session:
        found = [*_violations(session, ALWAYS), *_violations(session, CHANGES), *_violations(session, IN_THE_END)]
        return found + list(_wrong_results(session))


def _violations(session: Session, promises: dict[str, str]) -> Iterator[Finding]:
    for promise, query in promises.items():
        job = JOB_OF_EVENT[session.get_bind().dialect.name]
        for row in session.execute(text(query.replace("{job}", job))):
            yield Finding(promise, str(row[0]))


def _wrong_results(session: Session) -> Iterator[Finding]:
    """Every item's result is a function of its source, so each is known beforehand."""
    faces = {row[0]: row[1] for row in session.execute(text("select item_id, count(*) from face group by item_id"))}
    for item_id, state, verdict, score, error, source in session.execute(text(SOURCES)):
        found = Outcome(state, verdict, score, error)
        if state not in ("done", "failed"):
            continue
        expected, count = expected_of(source)
        if error == "poison" and expected.error != "poison":
            yield Finding("I6 a harmless image was called poison", item_id)
        elif not same(found, expected) or faces.get(item_id, 0) != count:
            yield Finding("I4 an item has another result than its image", f"{item_id}: {found}, not {expected}")


def same(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes are one; scores may have been through a database's floats."""
    return one[:2] == other[:2] and one.error == other.error and abs((one.score or 0) - (other.score or 0)) < 1e-9


def expected_of(source: str) -> tuple[Outcome, int]:
    """What must become of an image of this source, and how many faces it has."""
    if POISON in source.encode():
        return Outcome("failed", None, None, "poison"), 0
    (scan,) = StubScanner().scan([source.encode()])
    if scan.error is not None:
        return Outcome("failed", None, None, str(scan.error.code)), 0
    facts = tuple(
        FaceFacts(f.box.left, f.box.top, f.box.width, f.box.height, f.detection_score, f.score, f.landmarks)
        for f in scan.faces
    )
    judged = judge(facts, Policy("expected", CARD.thresholds["fake"], CARD.thresholds["suspect"]), Origin.URL)
    return Outcome("done", str(judged.verdict), judged.score, None), len(facts)


def ends(database: Database) -> dict[str, datetime]:
    """When each terminal item ended, by the clock that leases are measured by."""
    with database.read() as session:
        query = select(Item.id, Item.ended_at).where(Item.ended_at.is_not(None))
        return {item_id: moment for item_id, moment in session.execute(query) if moment}
