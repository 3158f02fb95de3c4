"""A preview judges what was scanned before by other terms; nothing is scanned or changed."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select, update

from shield import accounts, past, rejudge
from shield.db import Database
from shield.models import Item, Job, Weights
from shield.policy import Origin, Rule, Terms
from shield.states import Verdict
from tests.shield.history import face, scan


def moves(preview: rejudge.Preview) -> list[tuple[str, str, int]]:
    return [(change.before, change.after, change.images) for change in preview.changes]


def test_a_preview_counts_what_would_change_gravest_first_with_examples(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = scan(session, account_id, [[face(0.6)], [face(0.75)], [face(0.1)], [], [face(0.4)], [face(0.9, side=10)]])
    before = {item.id: (item.verdict, item.policy_version) for item in items(database)}
    with database.read() as session:
        seen = rejudge.preview(session, account_id, Terms(fake=0.7, suspect=0.3, smallest_face=8.0))
    assert seen.images == 6
    assert moves(seen) == [("suspect", "fake", 1), ("inconclusive", "fake", 1), ("clear", "suspect", 1)]
    assert [change.examples for change in seen.changes] == [(f"itm_{job.id[4:]}_000000{n}",) for n in (1, 5, 4)]
    assert (seen.changed, seen.flagged_before, seen.flagged_after) == (3, 2, 4)
    assert (seen.before[Verdict.CLEAR], seen.after[Verdict.CLEAR], seen.after[Verdict.NO_FACE]) == (2, 1, 1)
    assert {item.id: (item.verdict, item.policy_version) for item in items(database)} == before


def items(database: Database) -> list[Item]:
    with database.read() as session:
        return list(session.scalars(select(Item)))


def test_the_same_terms_change_nothing(database: Database, account_id: str) -> None:
    with database.write() as session:
        scan(session, account_id, [[face(score / 10)] for score in range(10)])
    with database.read() as session:
        seen = rejudge.preview(session, account_id, Terms())
    assert (seen.images, seen.changed, seen.changes) == (10, 0, ())


def test_rules_go_by_where_an_image_came_from(database: Database, account_id: str) -> None:
    urls = ["https://example.org/a.jpg", "s3://bucket/b.jpg"]
    with database.write() as session:
        scan(session, account_id, [[face(0.45)]] * 2, urls=urls)
        scan(session, account_id, [[face(0.45)]])
    with database.read() as session:
        seen = rejudge.preview(session, account_id, Terms(rules=(Rule(0.9, 0.4, (Origin.S3,)),)))
    assert moves(seen) == [("clear", "suspect", 1)]
    assert seen.changes[0].examples[0].endswith("_0000001")


def test_each_image_is_judged_by_the_thresholds_of_the_weights_that_scored_it(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        scan(session, account_id, [[face(0.6)]])
        scan(session, account_id, [[face(0.6)]], weights="c" * 64)
        session.execute(update(Weights).where(Weights.sha256 == "c" * 64).values(suspect_threshold=0.7))
    with database.read() as session:
        assert moves(rejudge.preview(session, account_id, Terms(review_share=1.0))) == [("suspect", "clear", 1)]


def test_the_newest_are_looked_at_up_to_a_bound(database: Database, account_id: str) -> None:
    with database.write() as session:
        scan(session, account_id, [[face(0.1)]] * 700)  # more than a page
        for _ in range(4):
            scan(session, account_id, [[face(0.6)]] * 2)
    with database.read() as session:
        for limit, suspects in ((3, 3), (8, 8), (10, 8), (600, 8), (5000, 8)):
            seen = rejudge.preview(session, account_id, Terms(), limit)
            assert (seen.images, seen.before[Verdict.SUSPECT]) == (min(limit, 708), suspects), limit
        found = [image.item_id for image in past.newest(session, account_id, 5000)]
        assert len(set(found)) == 708


def test_examples_are_the_newest_and_no_more_than_a_screenful(database: Database, account_id: str) -> None:
    with database.write() as session:
        scan(session, account_id, [[face(0.6)]] * 5)
        newest = scan(session, account_id, [[face(0.6)]] * 10)
    with database.read() as session:
        (change,) = rejudge.preview(session, account_id, Terms(fake=0.55, suspect=0.5)).changes
    assert (change.images, len(change.examples)) == (15, rejudge.EXAMPLES)
    assert all(newest.id[4:] in item_id for item_id in change.examples[:10])


def test_deleted_jobs_and_other_accounts_are_not_looked_at(database: Database, account_id: str) -> None:
    with database.write() as session:
        gone = scan(session, account_id, [[face(0.6)]])
        session.execute(update(Job).where(Job.id == gone.id).values(deleted_at=datetime.now(UTC)))
        other = accounts.create_account(session, "other").id
        theirs = scan(session, other, [[face(0.6)]])
    with database.read() as session:
        assert rejudge.preview(session, account_id, Terms(fake=0.5, suspect=0.5)).images == 0
        assert list(past.of_jobs(session, account_id, [gone.id, theirs.id], 10)) == []
        (theirs_seen,) = past.newest(session, other, 10)
        assert past.of_items(session, account_id, [theirs_seen.item_id]) == []
        assert past.whole(session, account_id, [theirs_seen.item_id]) == {}
        assert [*past.whole(session, other, [theirs_seen.item_id])] == [theirs_seen.item_id]


@pytest.mark.parametrize(("share", "drawn"), [(0.0, 0), (1.0, 3)])
def test_the_random_sample_is_counted_besides_what_is_flagged(
    database: Database, account_id: str, share: float, drawn: int
) -> None:
    with database.write() as session:
        scan(session, account_id, [[face(0.1)], [face(0.6)], [], [face(0.2)]])
    with database.read() as session:
        assert rejudge.preview(session, account_id, Terms(review_share=share)).sampled == drawn
