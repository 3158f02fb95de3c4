"""What is asked again and again costs the same however many rows there are: by an index, and without a sort."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from shield import cache, dispatch, explanations, jobs, outbox, past, policies, retention, turns
from shield.db import Database
from shield.models import Job
from shield.states import ItemState, Verdict
from tests.shield.work import WEIGHTS, scanned, submit, take

Statement = tuple[str, Any]
Ask = Callable[[Session, str, Job], object]


def after(job: Job) -> str:
    """The id of an item of a job: a page begins behind it."""
    return f"itm_{job.id[4:]}_0000003"


PAGES: dict[str, tuple[Ask, str]] = {  # what is asked, and the index that answers it
    "newest jobs": (lambda session, account, job: jobs.newest(session, account, 20), "ix_job_account_id_id"),
    "older jobs": (lambda session, account, job: jobs.newest(session, account, 20, job.id), "ix_job_account_id_id"),
    "items": (
        lambda session, account, job: jobs.items(session, job, 20, after(job)),
        "uq_item_job_id|sqlite_autoindex_item_2",
    ),
    "items of a state": (
        lambda session, account, job: jobs.items(session, job, 20, after(job), ItemState.DONE),
        "ix_item_job_id_state_ordinal",
    ),
    "items of a verdict": (
        lambda session, account, job: jobs.items(session, job, 20, after(job), None, Verdict.FAKE),
        "ix_item_verdict",
    ),
    "an item": (lambda session, account, job: jobs.item(session, account, f"itm_{job.id[4:]}_0000000"), "item"),
    "a job": (lambda session, account, job: jobs.get(session, account, job.id), "job"),
    "the backlog": (lambda session, account, job: jobs.check_backlog(session, account, 10**6), "ix_job_live"),
    "canceling jobs": (lambda session, account, job: jobs.canceling(session), "ix_job_live"),
    "items to cancel": (
        lambda session, account, job: jobs.cancel_waiting(session, job.id, 100),
        "ix_item_job_id_state_ordinal",
    ),
    "chunks to close": (lambda session, account, job: jobs.close_ready(session, job.id), "ix_chunk_job_id"),
    "the next chunk": (
        lambda session, account, job: dispatch.lease_next(session, 60),
        "ix_chunk_state_lane_ahead_turn_id",
    ),
    "the next chunk to fetch ahead": (
        lambda session, account, job: dispatch.lease_ahead(session, 60, not_of=["acc_1", "acc_2"]),
        "ix_chunk_state_lane_ahead_turn_id",
    ),
    "whether anything waits": (
        lambda session, account, job: dispatch.waits(session, "bulk"),
        "ix_chunk_state_lane_ahead_turn_id",
    ),
    "whether a chunk is ready": (
        lambda session, account, job: dispatch.ready(session, "bulk", company=True),
        "ix_chunk_state_lane_ahead_turn_id",
    ),
    "whether one is ready to fetch ahead": (
        lambda session, account, job: dispatch.ready_ahead(session, ["acc_1", "acc_2"]),
        "ix_chunk_state_lane_ahead_turn_id",
    ),
    "what will be leased next": (
        lambda session, account, job: dispatch.foreseen(session, "bulk", 64),
        "ix_item_chunk_id_ordinal",
    ),
    "the next turn": (
        lambda session, account, job: turns.next_of(session, account, "bulk", ahead=False),
        "ix_chunk_account_id_state_lane_ahead_turn",
    ),
    "what is owed": (lambda session, account, job: outbox.owed(session, "bulk", 100), "ix_outbox_lane_turn_id"),
    "earlier scans": (
        lambda session, account, job: cache.find(session, WEIGHTS, [(account, "b" * 64), (account, "c" * 64)]),
        "ix_item_scanned",
    ),
    "the next explanation": (lambda session, account, job: explanations.take(session, 60), "ix_explanation_pending"),
    "whether one is wanted": (
        lambda session, account, job: explanations.wanted(session),
        "ix_explanation_(pending|account_id)",  # either holds the pending ones alone
    ),
    "the policy in force": (
        lambda session, account, job: policies.newest(session, account),
        "uq_policy_version_account_id_number|sqlite_autoindex_policy_version_2",
    ),
    "the newest that was judged": (
        lambda session, account, job: list(past.newest(session, account, 20)),
        "ix_job_account_id_id",
    ),
    "what was judged in a job": (
        lambda session, account, job: list(past.of_jobs(session, account, [job.id], 20)),
        "ix_item_job_id_state_ordinal",
    ),
    "jobs that expire": (lambda session, account, job: retention.expire(session, 30, 100), "ix_job_ended_at"),
    "jobs to purge": (lambda session, account, job: retention.due(session, 100), "ix_job_deleted_at"),
    "waste": (lambda session, account, job: retention.next_waste(session, job.id, 100), "ix_item_source_blob"),
    "expired uploads": (
        lambda session, account, job: retention.expired_uploads(session, None, 100),
        "ix_upload_expires_at",
    ),
}
EXPLAIN = {True: "EXPLAIN QUERY PLAN", False: "EXPLAIN"}  # by whether it is SQLite
WHOLE = re.compile(
    r"SCAN (item|job|chunk|face|outbox|upload)\b(?!.* USING )|Seq Scan on (item|job|chunk|face|outbox|upload)\b"
)
SORT = re.compile("TEMP B-TREE|Sort Key")
# They sort a page, or the chunks of one job: nothing that grows with the table.
SMALL_SORTS = {"waste", "expired uploads", "chunks to close"}


@pytest.fixture
def filled(database: Database, account_id: str) -> Job:
    """A job of which some items are done, and another."""
    with database.write() as session:
        job = submit(session, account_id, items=40)
        submit(session, account_id, items=40)
        for _ in range(4):
            held = take(session)
            dispatch.record(session, held, [scanned(item.id, Verdict.FAKE) for item in held.items])
    return job


@contextmanager
def noted(database: Database) -> Iterator[list[Statement]]:
    """The statements that are sent meanwhile."""
    statements: list[Statement] = []

    def note(_c: Connection, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(database.engine, "before_cursor_execute", note)


def plans(database: Database, account_id: str, job: Job, ask: Ask) -> list[str]:
    """How the database answers each of the statements that are asked, a line a step."""
    with database.write() as session, noted(database) as statements:
        ask(session, account_id, job)
    return explained(database, statements)


def explained(database: Database, statements: list[Statement]) -> list[str]:
    lines: list[str] = []
    with database.engine.connect() as connection:
        if not database.is_sqlite:  # what these tables are too small for: not to read them whole, and not to sort them
            for kind in ("seqscan", "bitmapscan", "sort"):
                connection.exec_driver_sql(f"SET enable_{kind} = off")
        for statement, parameters in statements:
            # The faces of a page are sorted within the page.
            if re.match("SELECT|UPDATE|DELETE|WITH", statement) and "FROM face" not in statement:
                rows = connection.exec_driver_sql(f"{EXPLAIN[database.is_sqlite]} {statement}", parameters)
                lines += [row[-1] for row in rows]
    return lines


@pytest.mark.parametrize("name", PAGES)
def test_a_question_is_answered_by_an_index(database: Database, account_id: str, filled: Job, name: str) -> None:
    ask, index = PAGES[name]
    lines = plans(database, account_id, filled, ask)
    assert any(re.search(index, line) for line in lines), lines
    assert not [line for line in lines if WHOLE.search(line)], lines
    if name not in SMALL_SORTS:
        assert not [line for line in lines if SORT.search(line)], lines


def test_results_are_streamed_by_the_index_of_states(database: Database, filled: Job) -> None:
    with noted(database) as statements:
        assert len(list(jobs.results(database, filled))) == 16
    lines = explained(database, statements)
    assert any("ix_item_job_id_state_ordinal" in line for line in lines)
    assert not [line for line in lines if WHOLE.search(line) or SORT.search(line)]
