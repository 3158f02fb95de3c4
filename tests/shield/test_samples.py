"""Which images are a fair sample of what is clean."""

import math
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import select, update

from shield import accounts, policies, samples
from shield.db import Database
from shield.models import Case, Job
from shield.policy import Rule, Terms, sampled
from shield.states import Verdict
from tests.shield.history import DEFAULT, face, scan

SUSPECT = Verdict.SUSPECT


def test_every_scanned_image_of_the_named_jobs_counts(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = scan(session, account_id, [[face(0.2), face(0.6)], [], [face(0.9, side=5)], [face(0.3)]])
        scan(session, account_id, [[face(0.99)]])  # not named
    with database.read() as session:
        found = samples.clean(session, account_id, [job.id], reviewed=False, terms=Terms(), verdict=SUSPECT)
        assert sorted(found.peaks) == [0.0, 0.0, 0.3, 0.6]
        assert (found.reached, found.left_out, found.waiting) == (1, 0, 0)
        rules = Terms(rules=(Rule(0.9, 0.55, below=200.0),))
        found = samples.clean(session, account_id, [job.id], reviewed=False, terms=rules, verdict=SUSPECT)
        assert sorted(found.peaks) == [0.0, 0.0, 0.0, math.inf]
        assert samples.clean(session, account_id, [], reviewed=False, terms=Terms(), verdict=SUSPECT).peaks == ()


def test_scores_of_earlier_weights_are_left_out_and_counted(database: Database, account_id: str) -> None:
    with database.write() as session:
        old = scan(session, account_id, [[face(0.2)]] * 3)
    with database.write() as session:
        new = scan(session, account_id, [[face(0.4)]], weights="c" * 64)
    with database.read() as session:
        jobs = [old.id, new.id]
        found = samples.clean(session, account_id, jobs, reviewed=False, terms=Terms(), verdict=SUSPECT)
        assert (found.peaks, found.left_out) == ((0.4,), 3)


def test_of_what_was_reviewed_only_the_overturned_of_the_random_sample_counts(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        row = policies.save_draft(session, account_id, Terms(review_share=0.5), "", "robin")
        policies.publish(session, account_id, row.id, "robin")
        policy = policies.in_force(session, account_id, DEFAULT)
        scan(session, account_id, [[face(n / 100)] for n in range(100)], policy=policy)
        cases = session.scalars(select(Case)).all()
        overturned = {case.item_id for case in cases[::2]}
        for case in cases[:-3]:
            answer = "overturn" if case.item_id in overturned else "uphold"
            decided = {"state": "decided", "answer": answer, "decided_at": datetime.now(UTC)}
            session.execute(update(Case).where(Case.id == case.id).values(**decided))
        undecided = {case.item_id for case in cases[-3:]}
    drawn = {case.item_id for case in cases if sampled(case.item_id, 0.5)}
    assert drawn < {case.item_id for case in cases}  # the others are there because they are flagged
    with database.read() as session:
        found = samples.clean(session, account_id, [], reviewed=True, terms=Terms(), verdict=SUSPECT)
        assert len(found.peaks) == len(drawn & overturned - undecided) > 5
        assert min(found.peaks) < 0.5 < max(found.peaks)
        assert found.waiting == sum(case.reason == "sample" for case in cases[-3:])


def test_an_image_that_is_named_twice_counts_once_and_a_deleted_job_not_at_all(
    database: Database, account_id: str
) -> None:
    policy = replace(DEFAULT, version="account/1", review_share=1.0)
    with database.write() as session:
        row = policies.save_draft(session, account_id, Terms(review_share=1.0), "", "robin")
        policies.publish(session, account_id, row.id, "robin")
        job = scan(session, account_id, [[face(0.2)]] * 3, policy=policy)
        decided = {"state": "decided", "answer": "overturn", "decided_at": datetime.now(UTC)}
        session.execute(update(Case).values(**decided))
        other = accounts.create_account(session, "other").id
    with database.read() as session:
        found = samples.clean(session, account_id, [job.id, job.id], reviewed=True, terms=Terms(), verdict=SUSPECT)
        assert len(found.peaks) == 3
        found = samples.clean(session, other, [job.id], reviewed=True, terms=Terms(), verdict=SUSPECT)
        assert found.peaks == ()
    with database.write() as session:
        session.execute(update(Job).values(deleted_at=datetime.now(UTC)))
    with database.read() as session:
        found = samples.clean(session, account_id, [job.id], reviewed=True, terms=Terms(), verdict=SUSPECT)
        assert found.peaks == ()
