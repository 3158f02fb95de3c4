"""Policies of accounts: drafted, published, rolled back, and never changed."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shield import accounts, audit, policies
from shield.db import Database
from shield.errors import DraftChanged, NotFound
from shield.policy import Origin, Policy, Rule, Terms

DEFAULT = Policy("default/test-1", fake=0.8, suspect=0.5)
STRICT = Terms(
    fake=0.6, suspect=0.3, smallest_face=32.0, rules=(Rule(0.9, 0.7, (Origin.S3,), 40.0),), review_share=0.01
)


def publish(database: Database, account_id: str, terms: Terms, note: str = "") -> str:
    with database.write() as session:
        row = policies.save_draft(session, account_id, terms, note, "robin")
        return str(policies.publish(session, account_id, row.id, "robin").version)


def in_force(database: Database, account_id: str) -> Policy:
    with database.read() as session:
        return policies.in_force(session, account_id, DEFAULT)


def test_an_account_goes_by_the_default_until_it_publishes(database: Database, account_id: str) -> None:
    assert in_force(database, account_id) == DEFAULT
    with database.write() as session:
        row = policies.save_draft(session, account_id, STRICT, "stricter", "robin")
    assert in_force(database, account_id) == DEFAULT
    with database.write() as session:
        policies.publish(session, account_id, row.id, "kim")
    assert in_force(database, account_id) == STRICT.policy("account/1", DEFAULT)
    with database.read() as session:
        row = policies.history(session, account_id, 10)[0]
        assert (row.number, row.note, row.made_by, row.published_by) == (1, "stricter", "robin", "kim")
        assert policies.draft(session, account_id) is None
        entry = audit.newest(session, account_id, 1)[0]
        assert (entry.action, entry.actor, entry.target) == ("policy.published", "kim", row.id)


def test_there_is_one_draft_and_what_was_looked_at_is_what_is_published(database: Database, account_id: str) -> None:
    with database.write() as session:
        seen = policies.save_draft(session, account_id, STRICT, "", "robin").id
        policies.save_draft(session, account_id, Terms(), "", "kim")
    with database.write() as session, pytest.raises(DraftChanged, match="Look at the draft again"):
        policies.publish(session, account_id, seen, "robin")
    with database.read() as session:
        draft = policies.draft(session, account_id)
        assert draft is not None
        assert policies.terms_of(draft) == Terms()
    with database.write() as session:
        policies.discard_draft(session, account_id)
    with database.write() as session, pytest.raises(DraftChanged):
        policies.publish(session, account_id, draft.id, "robin")
    assert in_force(database, account_id) == DEFAULT


def test_rolling_back_publishes_an_earlier_version_anew_and_keeps_the_draft(
    database: Database, account_id: str
) -> None:
    publish(database, account_id, STRICT)
    publish(database, account_id, Terms(review_share=0.5))
    with database.write() as session:
        policies.save_draft(session, account_id, Terms(smallest_face=99.0), "", "robin")
        assert policies.roll_back(session, account_id, 1, "robin").version == "account/3"
    assert in_force(database, account_id) == STRICT.policy("account/3", DEFAULT)
    with database.write() as session:
        policies.roll_back(session, account_id, 0, "robin")
    assert in_force(database, account_id) == Terms().policy("account/4", DEFAULT)
    with database.read() as session:
        assert policies.draft(session, account_id) is not None
        notes = [(row.version, row.note) for row in policies.history(session, account_id, 2)]
        assert notes == [("account/4", "Back to the default"), ("account/3", "Back to account/1")]
        assert [row.number for row in policies.history(session, account_id, 5, before=3)] == [2, 1]
        entry = audit.newest(session, account_id, 1)[0]
        assert (entry.action, entry.detail) == ("policy.rolled_back", '{"to": "the default", "version": "account/4"}')
    with database.write() as session, pytest.raises(NotFound):
        policies.roll_back(session, account_id, 9, "robin")


def test_an_accounts_policy_is_nobody_elses(database: Database, account_id: str) -> None:
    publish(database, account_id, STRICT)
    with database.write() as session:
        other = accounts.create_account(session, "other").id
        draft = policies.save_draft(session, account_id, Terms(), "", "robin").id
    assert in_force(database, other) == DEFAULT
    assert publish(database, other, Terms()) == "account/1"
    with database.write() as session, pytest.raises(NotFound):
        policies.roll_back(session, other, 2, "kim")
    with database.write() as session, pytest.raises(DraftChanged):
        policies.publish(session, other, draft, "kim")
    with database.write() as session:
        policies.discard_draft(session, other)
    with database.read() as session:
        assert policies.draft(session, other) is None
        assert policies.draft(session, account_id) is not None


@pytest.mark.parametrize(
    "change",
    ["update policy_version set note = 'x'", "delete from policy_version", "update policy_version set terms = '{}'"],
)
def test_the_database_refuses_to_change_what_is_published(database: Database, account_id: str, change: str) -> None:
    publish(database, account_id, STRICT)
    with pytest.raises(DBAPIError, match="never changes"), database.write() as session:
        session.execute(text(change))
    assert in_force(database, account_id) == STRICT.policy("account/1", DEFAULT)


def together(steps: list[Callable[[], object]]) -> list[object]:
    """What each of these gave, or raised; all begun at the same time."""
    start, given = threading.Barrier(len(steps)), dict[int, object]()

    def run(number: int, step: Callable[[], object]) -> None:
        start.wait()
        try:
            given[number] = step()
        except DraftChanged as error:
            given[number] = error

    threads = [threading.Thread(target=run, args=(n, step)) for n, step in enumerate(steps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [given[n] for n in range(len(steps))]


def test_two_who_publish_one_draft_at_once_publish_it_once(database: Database, account_id: str) -> None:
    with database.write() as session:
        draft = policies.save_draft(session, account_id, STRICT, "", "robin").id

    def step() -> object:
        with database.write() as session:
            return policies.publish(session, account_id, draft, "robin").version

    given = together([step] * 4)
    assert [answer for answer in given if answer == "account/1"] == ["account/1"]
    assert sum(isinstance(answer, DraftChanged) for answer in given) == 3


def test_those_who_save_and_roll_back_at_once_all_succeed(database: Database, account_id: str) -> None:
    publish(database, account_id, STRICT)

    def save() -> object:
        with database.write() as session:
            return policies.save_draft(session, account_id, Terms(), "", "robin").version

    def back() -> object:
        with database.write() as session:
            return policies.roll_back(session, account_id, 1, "kim").version

    given = together([save, back, save, back, back])
    assert sorted(str(answer) for answer in given) == ["None", "None", "account/2", "account/3", "account/4"]
    assert in_force(database, account_id).version == "account/4"
