"""A worker judges each account's images by the policy that the account has in force."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event, select

from shield import accounts, jobs, policies
from shield.jobs import NewItem
from shield.models import Case
from shield.policy import Rule, Terms
from tests.worker.conftest import House
from tests.worker.stub import StubScanner
from worker import policies as judging
from worker.scan import Scanning


def publish(house: House, terms: Terms, account_id: str = "") -> None:
    with house.database.write() as session:
        row = policies.save_draft(session, account_id or house.account_id, terms, "", "robin")
        policies.publish(session, account_id or house.account_id, row.id, "robin")


def scan(scanning: Scanning) -> None:
    while scanning.scan_ready():
        pass


@contextmanager
def asked(house: House) -> Iterator[list[str]]:
    """The queries for a policy that are made meanwhile."""
    queries: list[str] = []

    def note(*told: object) -> None:
        if "policy_version" in str(told[2]).partition("FROM")[2]:
            queries.append(str(told[2]))

    event.listen(house.database.engine, "before_cursor_execute", note)
    yield queries
    event.remove(house.database.engine, "before_cursor_execute", note)


def test_the_policy_in_force_judges_and_is_named(house: House) -> None:
    publish(house, Terms(fake=0.95, suspect=0.85))
    job = house.submit(b"face 1", b"none 2")
    scan(house.scanning(StubScanner()))
    assert house.outcomes(job) == ["suspect", "no_face"]
    assert {item.policy_version for item in house.items(job)} == {"account/1"}
    house.check()


def test_a_draft_judges_nothing_and_another_account_keeps_the_default(house: House) -> None:
    with house.database.write() as session:
        policies.save_draft(session, house.account_id, Terms(fake=0.95, suspect=0.95), "", "robin")
        other = accounts.create_account(session, "other").id
    publish(house, Terms(fake=0.95, suspect=0.95), other)
    job = house.submit(b"face 1")
    with house.database.write() as session:
        blob = house.blobs.put(io.BytesIO(b"face 1"), 100)
        theirs = jobs.submit(session, other, [NewItem(blob=blob)], 4)
    scan(house.scanning(StubScanner()))
    assert [(item.verdict, item.policy_version) for item in house.items(job)] == [("fake", "default/stub-1")]
    assert [(item.verdict, item.policy_version) for item in house.items(theirs)] == [("clear", "account/1")]


def test_what_was_measured_before_is_judged_by_the_policy_of_now(house: House) -> None:
    scanning = house.scanning(StubScanner())
    first = house.submit(b"face 1")
    scan(scanning)
    publish(house, Terms(fake=0.95, suspect=0.95))
    scanning = house.scanning(StubScanner())
    second = house.submit(b"face 1")
    scan(scanning)
    assert (house.outcomes(first), house.outcomes(second)) == (["fake"], ["clear"])
    (item,) = house.items(second)
    assert (item.from_cache, item.policy_version) == (True, "account/1")


def test_a_policy_that_is_published_meanwhile_is_noticed_by_the_same_worker(house: House) -> None:
    scanning = house.scanning(StubScanner())
    scanning._policies._stale_at = float("inf")  # so that it never asks again by itself
    jobs_of = []
    for _ in range(3):
        jobs_of.append(house.submit(b"face 1"))
        scan(scanning)
        publish(house, Terms(fake=0.95, suspect=0.95))
        if len(jobs_of) == 2:
            scanning._policies._stale_at = 0.0
    assert [house.outcomes(job) for job in jobs_of] == [["fake"], ["fake"], ["clear"]]
    assert judging.FRESH_SECONDS <= 5


def test_however_many_items_there_are_the_policy_is_asked_for_once(house: House) -> None:
    house.submit(*[b"face %d" % n for n in range(60)], chunk_items=20)
    scanning = house.scanning(StubScanner())
    scanning._policies._stale_at = float("inf")
    with asked(house) as queries:
        scan(scanning)
    assert len(queries) == 1


def test_rules_go_by_where_the_image_came_from(house: House) -> None:
    publish(house, Terms(rules=(Rule(0.99, 0.95, below=55.0),)))  # the stub's face is 50 px wide
    job = house.submit(b"face 1")
    scan(house.scanning(StubScanner()))
    assert house.outcomes(job) == ["clear"]


def test_the_random_sample_is_put_before_a_moderator_whatever_its_verdict(house: House) -> None:
    publish(house, Terms(review_share=1.0))
    job = house.submit(b"face 1", b"none 2", b"broken")
    scan(house.scanning(StubScanner()))
    with house.database.read() as session:
        found = session.execute(select(Case.item_id, Case.reason).order_by(Case.item_id)).all()
    first, second, _ = house.items(job)
    assert [tuple(row) for row in found] == [(first.id, "flagged"), (second.id, "sample")]
