"""The plans that PostgreSQL chooses by itself on some ten thousand rows, and how many rows it then really reads."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text, update

from shield.db import Database
from shield.models import Chunk, Item, Job
from tests.shield.test_plans import PAGES, noted
from tests.shield.work import WEIGHTS, submit

pytestmark = pytest.mark.parametrize("dialect", ["postgresql"])

BIG, SMALL = 5000, 400  # items of each of four jobs; jobs of an item each
# Of tables with more than 20,000 items and 1,600 chunks: a page, or the answer itself, and a few rows around it.
READ = {
    "newest jobs": 40,
    "older jobs": 40,
    "items": 60,
    "items of a state": 60,
    "items of a verdict": 60,
    "an item": 10,
    "a job": 2,
    "the next chunk": 10,
    "the next turn": 5,
    "what is owed": 200,
    "earlier scans": 20,
    "jobs that expire": 2,
    "jobs to purge": 2,
}
FEW_ROWS = ("weights", "face", "policy_version")  # here: of so few no index is read
NOTHING = ("jobs that expire", "jobs to purge")  # is found, so nothing is read


@pytest.fixture
def filled(database: Database, account_id: str) -> Job:
    """A job that is done, three that wait, many small ones between them, and statistics of them all."""
    with database.write() as session:
        for _ in range(SMALL // 2):
            submit(session, account_id, 1)
        done = submit(session, account_id, BIG, 16)
        for _ in range(3):
            submit(session, account_id, BIG, 16)
        for _ in range(SMALL // 2):
            submit(session, account_id, 1)
        scanned = {"verdict": "clear", "image_sha256": "f" * 64, "weights_sha256": WEIGHTS, "state": "done"}
        session.execute(update(Item).where(Item.job_id == done.id).values(scanned))
        session.execute(update(Item).where(Item.job_id == done.id, Item.ordinal % 50 == 0).values(verdict="fake"))
        session.execute(update(Item).where(Item.job_id == done.id, Item.ordinal == 7).values(image_sha256="b" * 64))
        session.execute(update(Chunk).where(Chunk.job_id == done.id).values(state="done"))
    with database.write() as session:
        session.execute(text("analyze"))
    return done


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from steps(inner)


def test_it_reads_a_page_however_large_the_table_is(database: Database, account_id: str, filled: Job) -> None:
    for name, most in READ.items():
        ask, _ = PAGES[name]
        with database.write() as session, noted(database) as statements:
            ask(session, account_id, filled)
            session.rollback()
        read = 0
        with database.engine.connect() as connection:
            for statement, parameters in statements:
                if "FROM" not in statement and "UPDATE" not in statement:
                    continue
                [[found]] = connection.exec_driver_sql(f"explain (analyze, format json) {statement}", parameters)
                for step in steps((json.loads(found) if isinstance(found, str) else found)[0]["Plan"]):
                    assert step["Node Type"] != "Seq Scan" or step["Relation Name"] in FEW_ROWS, (name, found)
                    if "Relation Name" in step:
                        rows = step["Actual Rows"] + step.get("Rows Removed by Filter", 0)
                        read += rows * step["Actual Loops"]
            connection.rollback()
        assert 0 < read <= most or name in NOTHING, (name, read)
