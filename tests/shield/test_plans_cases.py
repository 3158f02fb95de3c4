"""What reviewers ask for again and again is answered by an index and without a sort, however many cases there are."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shield import cases, claims, decisions, duplicates, retention
from shield.cases import CaseFilter, Sort
from shield.db import Database
from shield.states import CaseState, Role
from tests.shield.reviewing import ANNA, CLEAR, FAKE, SUSPECT, UPHOLD, answer, hold, open_cases, read
from tests.shield.test_plans import explained, noted

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
DECIDED, OPEN = CaseFilter(state=CaseState.DECIDED), CaseFilter(state=CaseState.OPEN)
Ask = Callable[[Session, str, list[str]], object]  # of an account, and cases of it: decided, claimed, open, open


def of_job(session: Session, account_id: str, ids: list[str]) -> object:
    job_id = cases.get(session, account_id, ids[2]).job_id
    return cases.queue(session, account_id, Role.LEAD, 20, wanted=CaseFilter(job_id=job_id))


ASKED: dict[str, tuple[Ask, str]] = {  # what is asked, and the index that answers it
    "by priority": (lambda s, a, ids: cases.queue(s, a, Role.MODERATOR, 20), "ix_review_case_priority"),
    "a page further": (lambda s, a, ids: cases.queue(s, a, Role.LEAD, 20, after=ids[2]), "ix_review_case_priority"),
    "by age": (lambda s, a, ids: cases.queue(s, a, Role.LEAD, 20, Sort.AGE, OPEN, ids[2]), "ix_review_case_age"),
    "by score": (lambda s, a, ids: cases.queue(s, a, Role.LEAD, 20, Sort.SCORE, after=ids[2]), "ix_review_case_score"),
    "of a job": (of_job, "ix_review_case_job"),
    "decided": (
        lambda s, a, ids: cases.queue(s, a, Role.LEAD, 20, wanted=DECIDED, after=ids[0]),
        "ix_review_case_decided",
    ),
    "counts": (lambda s, a, ids: cases.counts(s, a), "ix_review_case_decided"),
    "campaigns": (lambda s, a, ids: cases.campaigns(s, a), "ix_review_case_job"),
    "the next": (lambda s, a, ids: claims.claim_next(s, a, ANNA, 60), "ix_review_case_priority"),
    "a claim": (lambda s, a, ids: claims.claim(s, a, ids[2], ANNA, 60), "review_case"),
    "claims that ran out": (lambda s, a, ids: claims.sweep(s), "ix_review_case_claimed_until"),
    "a case of an item": (
        lambda s, a, ids: cases.of_item(s, a, cases.get(s, a, ids[0]).item_id),
        "uq_review_case_item_id|sqlite_autoindex_review_case_2",
    ),
    # PostgreSQL takes either while there is one decision.
    "what was answered": (
        lambda s, a, ids: decisions.history(s, a, ids[0]),
        "ix_decision_case_id|ix_decision_account_id_actor_id",
    ),
    "what one answered last": (
        lambda s, a, ids: decisions.last_of(s, a, "mod_anna"),
        "ix_decision_account_id_actor_id",
    ),
    "a flood": (
        lambda s, a, ids: decisions.decide_many(s, a, ids[2:], UPHOLD, ANNA, 10, 10),
        "ix_decision_account_id_actor_id",
    ),
    "near-duplicates": (
        lambda s, a, ids: duplicates.near_duplicates(s, a, cases.get(s, a, ids[2])),
        "ix_case_piece_account_id_piece",
    ),
    "cases of deleted jobs": (lambda s, a, ids: retention.forget_cases(s, 100), "ix_review_case_job_id"),
}
TABLES = "review_case|decision|case_piece"
WHOLE = re.compile(rf"SCAN ({TABLES})\b(?!.* USING )|Seq Scan on ({TABLES})\b")
SORT = re.compile("TEMP B-TREE|Sort Key")
# The answers to one case; fifty jobs, of which each was found by the index; what was chosen; candidates; a page.
SMALL_SORTS = {"what was answered", "campaigns", "a flood", "near-duplicates", "cases of deleted jobs"}


@pytest.fixture
def ids(database: Database, account_id: str) -> list[str]:
    """One that is decided, one that is claimed and two that are open, among others."""
    looks = ["0123456789abcdef"] * 6
    seen = [(FAKE, 0.9), (FAKE, 0.8), (FAKE, 0.95), (SUSPECT, 0.6), (SUSPECT, 0.5), (FAKE, 0.7)]
    found = open_cases(database, account_id, seen, looks)
    for _ in range(3):
        open_cases(database, account_id, seen, looks)
    open_cases(database, account_id, [(CLEAR, 0.1)], sample=True)
    answer(database, account_id, found[0])
    hold(database, account_id, found[1])
    return found[:4]


@pytest.mark.parametrize("name", ASKED)
def test_a_question_of_a_reviewer_is_answered_by_an_index(
    database: Database, account_id: str, ids: list[str], name: str
) -> None:
    ask, index = ASKED[name]
    with database.write() as session, noted(database) as statements:
        ask(session, account_id, ids)
    lines = explained(database, statements)
    assert any(re.search(index, line) for line in lines), lines
    assert not [line for line in lines if WHOLE.search(line)], lines
    if name not in SMALL_SORTS:
        assert not [line for line in lines if SORT.search(line)], lines


def test_decisions_are_exported_by_the_index_of_decided_cases(
    database: Database, account_id: str, ids: list[str]
) -> None:
    with noted(database) as statements:
        assert len(list(decisions.export(database, account_id, SINCE))) == 1
    lines = explained(database, [found for found in statements if "FROM decision" not in found[0]])
    assert any("ix_review_case_decided" in line for line in lines), lines
    assert not [line for line in lines if WHOLE.search(line) or SORT.search(line)], lines


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_with_statistics_of_many_cases_the_queue_still_reads_a_page(database: Database, account_id: str) -> None:
    for _ in range(40):
        open_cases(database, account_id, [(FAKE, 0.5 + n / 128) for n in range(64)])
    done = open_cases(database, account_id, [(FAKE, 0.9)])
    answer(database, account_id, done[0])
    with database.write() as session:
        session.execute(text("analyze"))
    for ask, index in (ASKED[name] for name in ("by priority", "a page further", "by age", "by score", "the next")):
        with database.write() as session, noted(database) as statements:
            ask(session, account_id, [done[0], done[0], cases.queue(session, account_id, Role.LEAD, 1)[0].id])
            session.rollback()
        lines: list[str] = []
        with database.engine.connect() as connection:
            for statement, parameters in statements:
                if "FROM review_case" in statement:
                    lines += [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
        # Where all cases are one account's, their ids lead as straight to the oldest.
        assert any(re.search(f"{index}|pk_review_case on", line) for line in lines), lines
        assert not [line for line in lines if "Seq Scan on review_case" in line or SORT.search(line)], lines
    assert read(database, account_id, done[0]).state == "decided"
