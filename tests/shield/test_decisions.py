"""Decisions are added and never changed; what is taken back is open again, in the hands of who took it back."""

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from shield import audit, cases, decisions, duplicates, retention
from shield.claims import Claim, Reviewer
from shield.db import Database
from shield.decisions import Bulk, Ruling
from shield.errors import (
    AlreadyDecided,
    InvalidSubmission,
    NothingToUndo,
    ScopeMissing,
    ShieldError,
    TooManyDecisions,
)
from shield.models import Case, CasePiece, Decision, Event
from shield.states import Answer, DecisionReason, EventType, Role
from tests.shield.post import subscribe
from tests.shield.reviewing import (
    ANNA,
    BEN,
    ESCALATE,
    FAKE,
    LEAD,
    OVERTURN,
    SKIP,
    UPHOLD,
    answer,
    expire,
    hold,
    open_cases,
    read,
)
from tests.shield.test_concurrency import at_once

LOOKS = "0123456789abcdef"


def answers(database: Database, account_id: str, case_id: str) -> list[str]:
    with database.read() as session:
        return [decision.answer for decision in decisions.history(session, account_id, case_id)]


def undo(database: Database, account_id: str, case_id: str, reviewer: Reviewer = ANNA) -> Claim:
    with database.write() as session:
        return decisions.undo(session, account_id, case_id, reviewer, 60)


def decide_many(
    database: Database,
    account_id: str,
    ids: list[str],
    ruling: Ruling = OVERTURN,
    reviewer: Reviewer = ANNA,
    most: int = 10,
    a_minute: int = 20,
) -> Bulk:
    with database.write() as session:
        return decisions.decide_many(session, account_id, ids, ruling, reviewer, most, a_minute)


@pytest.mark.parametrize(("ruling", "state"), [(UPHOLD, "decided"), (OVERTURN, "decided"), (SKIP, "open")])
def test_an_answer_is_kept_with_who_gave_it_and_why(
    database: Database, account_id: str, ruling: Ruling, state: str
) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    token = hold(database, account_id, case_id)
    given = Ruling(ruling.answer, DecisionReason.OTHER, "seen before\nelsewhere")
    with database.write() as session:
        decision = decisions.decide(session, account_id, case_id, token, given, ANNA)
    assert (decision.answer, decision.reason, decision.note) == (ruling.answer, "other", "seen before\nelsewhere")
    assert (decision.actor, decision.case_id) == ("mod_anna", case_id)
    case = read(database, account_id, case_id)
    assert (case.state, case.claim_token, case.claimed_until) == (state, None, None)
    decided = (ruling.answer, "mod_anna", decision.decided_at) if state == "decided" else (None, None, None)
    assert (case.answer, case.decided_by, case.decided_at) == decided


def test_what_is_escalated_waits_for_a_lead_before_all_else(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    answer(database, account_id, case_id, ESCALATE)
    case = read(database, account_id, case_id)
    assert (case.state, case.level, case.priority) == ("open", "lead", -1)
    token = hold(database, account_id, case_id, LEAD)
    with database.write() as session, pytest.raises(InvalidSubmission, match="escalated already"):
        decisions.decide(session, account_id, case_id, token, ESCALATE, LEAD)
    with database.write() as session:
        decisions.decide(session, account_id, case_id, token, OVERTURN, LEAD)
    assert answers(database, account_id, case_id) == ["escalate", "overturn"]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ((Answer.UNDO,), "is no answer"),
        ((Answer.UPHOLD, DecisionReason.AUTHENTIC), "goes with one of impersonation"),
        ((Answer.OVERTURN, DecisionReason.FRAUD), "goes with one of authentic"),
        ((Answer.SKIP, None, "x" * 4001), "up to 4000"),
        ((Answer.SKIP, None, "a\0b"), "up to 4000"),
    ],
)
def test_an_answer_that_does_not_go_together_is_refused(given: tuple[Answer], what: str) -> None:
    with pytest.raises(InvalidSubmission, match=what):
        Ruling(*given)


def test_every_reason_goes_with_some_answer() -> None:
    assert {reason for reasons in decisions.REASONS.values() for reason in reasons} == set(DecisionReason)


def test_a_page_that_was_left_open_decides_nothing(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    token = hold(database, account_id, case_id)
    with database.write() as session:
        decisions.decide(session, account_id, case_id, token, UPHOLD, ANNA)
    with database.write() as session, pytest.raises(AlreadyDecided, match="undo that first"):
        decisions.decide(session, account_id, case_id, token, OVERTURN, ANNA)
    undo(database, account_id, case_id)
    with database.write() as session, pytest.raises(ShieldError) as error:
        decisions.decide(session, account_id, case_id, token, OVERTURN, ANNA)
    assert error.value.code in ("claim_lost", "case_taken")
    assert answers(database, account_id, case_id) == ["uphold", "undo"]


def test_the_database_refuses_to_change_a_decision(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    answer(database, account_id, case_id)
    with pytest.raises(DBAPIError, match="decisions never change"), database.write() as session:
        session.execute(text("update decision set answer = 'overturn'"))


@pytest.mark.parametrize("ruling", [UPHOLD, OVERTURN, ESCALATE, SKIP])
def test_what_is_undone_is_as_before_and_claimed_by_who_undid_it(
    database: Database, account_id: str, ruling: Ruling
) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    before = read(database, account_id, case_id)
    answer(database, account_id, case_id, ruling)
    claim = undo(database, account_id, case_id)
    after = read(database, account_id, case_id)
    assert (after.state, after.claimed_by, after.claim_token) == ("claimed", "mod_anna", claim.token)
    assert (after.level, after.priority, after.answer) == (before.level, before.priority, None)
    assert answers(database, account_id, case_id) == [ruling.answer, "undo"]
    with database.write() as session:
        last = decisions.history(session, account_id, case_id)
        assert last[1].undoes == last[0].id
        decisions.decide(session, account_id, case_id, claim.token, OVERTURN, ANNA)
    assert answers(database, account_id, case_id) == [ruling.answer, "undo", "overturn"]


def test_only_a_lead_takes_back_what_somebody_else_decided_and_that_is_noted(
    database: Database, account_id: str
) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    answer(database, account_id, case_id)
    with pytest.raises(ScopeMissing, match="only a lead"):
        undo(database, account_id, case_id, BEN)
    assert read(database, account_id, case_id).state == "decided"
    undo(database, account_id, case_id, LEAD)
    with database.read() as session:
        [entry] = audit.newest(session, account_id, 1)
    assert (entry.action, entry.actor, entry.target) == ("decision.undone", "mod_l", case_id)
    assert read(database, account_id, case_id).claimed_by == "mod_l"


def test_nothing_is_undone_where_nothing_was_answered_or_somebody_went_on(database: Database, account_id: str) -> None:
    fresh, undone, skipped, escalated = open_cases(database, account_id, [(FAKE, 0.9)] * 4)
    answer(database, account_id, undone)
    undo(database, account_id, undone)
    answer(database, account_id, skipped, SKIP)
    hold(database, account_id, skipped, BEN)
    answer(database, account_id, escalated, ESCALATE)
    hold(database, account_id, escalated, LEAD)
    for case_id in (fresh, undone, skipped, escalated):
        with pytest.raises(NothingToUndo):
            undo(database, account_id, case_id)
    expire(database, escalated)
    assert undo(database, account_id, escalated).case.level == "moderator"


def test_of_two_who_undo_at_once_one_does(database: Database, account_id: str) -> None:
    def ask(reviewer: Reviewer) -> Callable[[], bool]:
        def attempt() -> bool:
            try:
                undo(database, account_id, case_id, reviewer)
            except NothingToUndo:
                return False
            return True

        return attempt

    for _ in range(4):
        [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
        answer(database, account_id, case_id)
        done = at_once(*(ask(Reviewer(f"mod_{number}", Role.LEAD)) for number in range(4)))
        assert Counter(done) == {True: 1, False: 3}
        assert answers(database, account_id, case_id) == ["uphold", "undo"]


def test_many_are_decided_at_once_but_not_what_others_have_or_decided(database: Database, account_id: str) -> None:
    free, mine, theirs, done, leads, expired = open_cases(database, account_id, [(FAKE, 0.9)] * 6)
    hold(database, account_id, mine)
    hold(database, account_id, theirs, BEN)
    hold(database, account_id, expired, BEN)
    expire(database, expired)
    answer(database, account_id, done, UPHOLD, BEN)
    answer(database, account_id, leads, ESCALATE, BEN)
    with database.write() as session:
        subscribe(session, account_id, EventType.CASE_DECIDED)
    ids = [free, mine, theirs, done, leads, expired, "cas_none"]
    found = decide_many(database, account_id, ids)
    assert sorted(found.decided) == sorted([free, mine, expired])
    assert found.passed_over == [theirs, done, leads, "cas_none"]
    assert [read(database, account_id, case_id).answer for case_id in ids[:4]] == [
        "overturn",
        "overturn",
        None,
        "uphold",
    ]
    with database.read() as session:
        [entry] = audit.newest(session, account_id, 1)
        events = session.scalars(select(Event).where(Event.type == "case.decided").order_by(Event.sequence)).all()
    assert (entry.action, entry.detail) == ("cases.decided", '{"answer": "overturn", "cases": "3"}')
    assert {event.data["case_id"] for event in events} == {free, mine, expired}


def test_a_flood_of_decisions_is_held_up_and_nothing_of_it_is_written(database: Database, account_id: str) -> None:
    ids = open_cases(database, account_id, [(FAKE, 0.9)] * 8)
    with pytest.raises(InvalidSubmission, match="1 to 3 cases"):
        decide_many(database, account_id, ids[:4], most=3)
    with pytest.raises(InvalidSubmission, match="1 to 10 cases"):
        decide_many(database, account_id, [])
    with pytest.raises(InvalidSubmission, match="one by one"):
        decide_many(database, account_id, ids[:2], SKIP)
    decide_many(database, account_id, ids[:3], a_minute=5)
    with pytest.raises(TooManyDecisions, match="3 decisions of yours") as error:
        decide_many(database, account_id, ids[3:6], a_minute=5)
    assert error.value.seconds == 60
    assert read(database, account_id, ids[3]).state == "open"
    assert len(decide_many(database, account_id, ids[3:6], a_minute=5, reviewer=BEN).decided) == 3
    assert len(decide_many(database, account_id, ids[6:], a_minute=5).decided) == 2


def test_a_flood_from_two_tabs_at_once_is_held_up(database: Database, account_id: str) -> None:
    def ask(chosen: list[str], reviewer: Reviewer) -> Callable[[], int]:
        def attempt() -> int:
            try:
                return len(decide_many(database, account_id, chosen, a_minute=5, reviewer=reviewer).decided)
            except TooManyDecisions:
                return 0

        return attempt

    for number in range(5):
        reviewer = Reviewer(f"mod_{number}", Role.MODERATOR)
        ids = open_cases(database, account_id, [(FAKE, 0.9)] * 9)
        done = at_once(*(ask(ids[n : n + 3], reviewer) for n in (0, 3, 6)))
        assert Counter(done) == {3: 1, 0: 2}


def test_who_decides_while_the_job_is_deleted_and_purged_leaves_nothing_behind(
    database: Database, account_id: str
) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)], looks=[LOOKS])
    job_id = read(database, account_id, case_id).job_id
    token = hold(database, account_id, case_id)
    decided = threading.Event()

    def decide() -> None:
        with database.write() as session:
            decisions.decide(session, account_id, case_id, token, UPHOLD, ANNA)
            decided.set()
            time.sleep(0.3)  # on PostgreSQL the purge runs into it; on SQLite it waits for its turn

    def purge() -> None:
        decided.wait()
        with database.write() as session:
            retention.delete_job(session, account_id, job_id, "operator")
        with database.write() as session:
            retention.forget_cases(session, 10)

    at_once(decide, purge)
    with database.read() as session:
        for table in (Case, Decision, CasePiece):
            assert session.scalars(select(table)).all() == []


def test_bulk_decisions_that_overlap_decide_each_case_once(database: Database, account_id: str) -> None:
    ids = open_cases(database, account_id, [(FAKE, 0.9)] * 12)

    def ask(number: int) -> Callable[[], Bulk]:
        chosen = ids[number:] + ids[:number]
        return lambda: decide_many(
            database, account_id, chosen, reviewer=Reviewer(f"mod_{number}", Role.MODERATOR), most=20
        )

    done = [found for found in at_once(*(ask(number) for number in range(6))) if isinstance(found, Bulk)]
    assert sorted(case_id for found in done for case_id in found.decided) == sorted(ids)
    assert all(answers(database, account_id, case_id) == ["overturn"] for case_id in ids)


def test_whoever_subscribes_is_told_what_was_decided_and_what_was_taken_back(
    database: Database, account_id: str
) -> None:
    unheard, case_id = open_cases(database, account_id, [(FAKE, 0.9)] * 2)
    answer(database, account_id, unheard)
    with database.write() as session:
        subscribe(session, account_id, EventType.CASE_DECIDED, EventType.CASE_REOPENED)
    answer(database, account_id, case_id)
    undo(database, account_id, case_id)
    with database.write() as session:
        token = cases.get(session, account_id, case_id).claim_token or ""
        decisions.decide(session, account_id, case_id, token, SKIP, ANNA)
        decided, reopened = session.scalars(
            select(Event).where(Event.type.like("case.%")).order_by(Event.sequence)
        ).all()
    case = read(database, account_id, case_id)
    thin = {
        "case_id": case_id,
        "item_id": case.item_id,
        "job_id": case.job_id,
        "custom_id": "photo 1",
        "verdict": "fake",
        "score": 0.9,
        "url": f"/v1/cases/{case_id}",
    }
    assert decided.type == "case.decided"
    assert decided.data == thin | {"answer": "uphold", "decided_at": decided.data["decided_at"]}
    assert (reopened.type, reopened.data) == ("case.reopened", thin)


def test_what_one_answered_last_is_found_to_be_undone(database: Database, account_id: str) -> None:
    first, second, other = open_cases(database, account_id, [(FAKE, 0.9)] * 3)
    answer(database, account_id, first)
    answer(database, account_id, second, SKIP)
    answer(database, account_id, other, reviewer=BEN)
    with database.read() as session:
        found = decisions.last_of(session, account_id, "mod_anna")
    assert [(decision.case.id, decision.answer) for decision in found] == [(second, "skip"), (first, "uphold")]
    assert found[0].case.item.faces


def test_near_duplicates_that_were_decided_are_found_the_most_alike_first(database: Database, account_id: str) -> None:
    looks = int(LOOKS, 16)
    alike = [0, 1 << 63 | 1, 1 << 3 | 1 << 19 | 1 << 35 | 1 << 51, 0b11111, (1 << 64) - 1]
    ids = open_cases(database, account_id, [(FAKE, 0.9)] * 5, looks=[f"{looks ^ flip:016x}" for flip in alike])
    [asked] = open_cases(database, account_id, [(FAKE, 0.9)], looks=[LOOKS])
    case = read(database, account_id, asked)
    for case_id in ids[::-1]:
        answer(database, account_id, case_id)
    with database.read() as session:
        found = duplicates.near_duplicates(session, account_id, case)
        assert [(near.case.id, near.distance) for near in found] == [(ids[0], 0), (ids[1], 2), (ids[2], 4)]
        assert found[0].case.item.faces
        assert [near.case.id for near in duplicates.near_duplicates(session, account_id, case, most=1)] == ids[:1]
        assert duplicates.near_duplicates(session, "acc_other", case) == []
    undo(database, account_id, ids[0])
    with database.read() as session:
        assert [near.case.id for near in duplicates.near_duplicates(session, account_id, case)] == ids[1:3]


def test_a_case_whose_looks_are_unknown_has_no_near_duplicates(database: Database, account_id: str) -> None:
    first, second = open_cases(database, account_id, [(FAKE, 0.9)] * 2)
    answer(database, account_id, first)
    with database.read() as session:
        assert duplicates.near_duplicates(session, account_id, cases.get(session, account_id, second)) == []
