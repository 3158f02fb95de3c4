"""A case is one reviewer's at a time, for as long as they show signs of life."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from shield import cases, claims, decisions
from shield.cases import CaseFilter, Sort
from shield.claims import Claim, Reviewer
from shield.db import Database, now
from shield.errors import AlreadyDecided, CaseTaken, ClaimLost, NotFound, ScopeMissing
from shield.states import Role
from tests.shield.reviewing import (
    ANNA,
    BEN,
    ESCALATE,
    FAKE,
    LEAD,
    OVERTURN,
    SKIP,
    SUSPECT,
    UPHOLD,
    answer,
    expire,
    hold,
    open_cases,
    read,
)
from tests.shield.test_concurrency import THREADS, at_once

ROUNDS = 5


def reviewer(number: int) -> Reviewer:
    return Reviewer(f"mod_{number}", Role.MODERATOR)


def test_who_claims_a_case_holds_it_and_nobody_else_gets_it(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    with database.write() as session:
        claim = claims.claim(session, account_id, case_id, ANNA, 60)
        assert claim.case.state == "claimed"
        assert claim.case.item.faces
        assert timedelta(seconds=50) < claim.until - now(session) <= timedelta(seconds=60)
    with database.write() as session, pytest.raises(CaseTaken, match="go on with the next"):
        claims.claim(session, account_id, case_id, BEN, 60)


def test_who_claims_again_keeps_the_token_so_that_a_second_page_does_not_lock_out_the_first(
    database: Database, account_id: str
) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    assert hold(database, account_id, case_id) == hold(database, account_id, case_id)


def test_a_claim_that_ran_out_can_be_taken_at_once_and_is_lost_to_who_had_it(
    database: Database, account_id: str
) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    token = hold(database, account_id, case_id)
    expire(database, case_id)
    with database.write() as session:
        with pytest.raises(ClaimLost, match="claim it again"):
            claims.renew(session, account_id, case_id, token, 60)
        with pytest.raises(ClaimLost):
            decisions.decide(session, account_id, case_id, token, UPHOLD, ANNA)
        assert not claims.release(session, account_id, case_id, token)
    other = hold(database, account_id, case_id, BEN)
    assert other != token
    with database.write() as session:
        with pytest.raises(CaseTaken):
            claims.renew(session, account_id, case_id, token, 60)
        with pytest.raises(CaseTaken):
            decisions.decide(session, account_id, case_id, token, UPHOLD, ANNA)
        assert not claims.release(session, account_id, case_id, token)
        assert decisions.history(session, account_id, case_id) == []


def test_a_renewed_claim_lasts_longer(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    token = hold(database, account_id, case_id, seconds=60)
    with database.write() as session:
        until = claims.renew(session, account_id, case_id, token, 600)
        assert until == cases.get(session, account_id, case_id).claimed_until
        assert until - now(session) > timedelta(seconds=500)


def test_a_case_that_is_given_back_is_open_and_its_token_worth_nothing(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    token = hold(database, account_id, case_id)
    with database.write() as session:
        assert claims.release(session, account_id, case_id, token)
        assert not claims.release(session, account_id, case_id, token)
    assert read(database, account_id, case_id).state == "open"
    assert hold(database, account_id, case_id) != token


def test_the_sweep_opens_what_ran_out_and_nothing_else(database: Database, account_id: str) -> None:
    gone, held, waiting = open_cases(database, account_id, [(FAKE, 0.9)] * 3)
    for case_id in (gone, held):
        hold(database, account_id, case_id)
    expire(database, gone)
    with database.write() as session:
        assert claims.sweep(session) == 1
        assert claims.sweep(session) == 0
    states = [read(database, account_id, case_id).state for case_id in (gone, held, waiting)]
    assert states == ["open", "claimed", "open"]
    assert read(database, account_id, gone).claim_token is None


def test_a_decided_case_cannot_be_claimed(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    answer(database, account_id, case_id)
    with database.write() as session, pytest.raises(AlreadyDecided, match="upheld already"):
        claims.claim(session, account_id, case_id, BEN, 60)


def test_what_was_escalated_is_a_leads(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    answer(database, account_id, case_id, ESCALATE)
    with database.write() as session:
        with pytest.raises(ScopeMissing, match="a lead decides it"):
            claims.claim(session, account_id, case_id, ANNA, 60)
        assert claims.claim_next(session, account_id, ANNA, 60) is None
        claim = claims.claim_next(session, account_id, LEAD, 60)
        assert claim is not None
        assert claim.case.id == case_id


def test_the_next_case_is_the_first_that_is_free_and_is_seen_before_it_is_taken(
    database: Database, account_id: str
) -> None:
    suspect, taken, first, second = open_cases(
        database, account_id, [(SUSPECT, 0.6), (FAKE, 0.99), (FAKE, 0.95), (FAKE, 0.9)]
    )
    hold(database, account_id, taken, BEN)
    with database.write() as session:
        ahead = claims.peek_next(session, account_id, ANNA)
        claim = claims.claim_next(session, account_id, ANNA, 60)
        assert ahead is not None
        assert claim is not None
        assert ahead.id == claim.case.id == first
        then = claims.peek_next(session, account_id, ANNA, skip=[second])
        assert then is not None
        assert then.id == suspect
        narrow = claims.claim_next(session, account_id, ANNA, 60, Sort.AGE, CaseFilter(verdict=SUSPECT))
        assert narrow is not None
        assert narrow.case.id == suspect
        assert claims.claim_next(session, account_id, ANNA, 60, skip=[second]) is None


def test_what_a_reviewer_skipped_is_the_next_case_of_others_alone(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    answer(database, account_id, case_id, SKIP)
    with database.write() as session:
        assert claims.peek_next(session, account_id, ANNA) is None
        assert claims.claim_next(session, account_id, ANNA, 60) is None
        claim = claims.claim_next(session, account_id, BEN, 60)
        assert claim is not None
        assert claim.case.id == case_id


def test_a_skip_that_was_taken_back_keeps_no_case_from_anybody(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    answer(database, account_id, case_id, SKIP)
    with database.write() as session:
        token = decisions.undo(session, account_id, case_id, ANNA, 60).token
        assert claims.release(session, account_id, case_id, token)
        claim = claims.claim_next(session, account_id, ANNA, 60)
        assert claim is not None
        assert claim.case.id == case_id


def test_a_lead_who_escalates_a_case_leaves_it_to_another_one(database: Database, account_id: str) -> None:
    escalated, after = open_cases(database, account_id, [(FAKE, 0.9), (SUSPECT, 0.6)])
    answer(database, account_id, escalated, ESCALATE, LEAD)
    with database.write() as session:
        mine = claims.claim_next(session, account_id, LEAD, 60)
        another = claims.claim_next(session, account_id, Reviewer("mod_another", Role.LEAD), 60)
        assert mine is not None
        assert another is not None
        assert (mine.case.id, another.case.id) == (after, escalated)


def test_a_case_that_is_nowhere_is_not_found(database: Database, account_id: str) -> None:
    with database.write() as session:
        for ask in (
            lambda: claims.claim(session, account_id, "cas_none", ANNA, 60),
            lambda: claims.renew(session, account_id, "cas_none", "clm_none", 60),
            lambda: decisions.decide(session, account_id, "cas_none", "clm_none", OVERTURN, ANNA),
        ):
            with pytest.raises(NotFound):
                ask()
        assert not claims.release(session, account_id, "cas_none", "clm_none")


def test_of_many_who_claim_one_case_at_once_one_gets_it(database: Database, account_id: str) -> None:
    """Whether it is open, or somebody's claim on it has just run out."""

    def ask(number: int) -> Callable[[], Claim | None]:
        def claim() -> Claim | None:
            try:
                with database.write() as session:
                    return claims.claim(session, account_id, case_id, reviewer(number), 60)
            except CaseTaken:
                return None

        return claim

    for turn in range(ROUNDS):
        [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
        if turn % 2:
            hold(database, account_id, case_id)
            expire(database, case_id)
        got = [claim for claim in at_once(*(ask(number) for number in range(THREADS))) if isinstance(claim, Claim)]
        assert len(got) == 1
        assert read(database, account_id, case_id).claim_token == got[0].token


def test_many_who_ask_for_the_next_case_at_once_get_one_each(database: Database, account_id: str) -> None:
    ids = open_cases(database, account_id, [(FAKE, 0.9)] * 12)

    def work(who: Reviewer) -> list[str]:
        found: list[str] = []
        while True:
            with database.write() as session:
                claim = claims.claim_next(session, account_id, who, 60)
            if claim is None:
                return found
            found.append(claim.case.id)

    each = at_once(*(partial(work, reviewer(number)) for number in range(THREADS)))
    got = [case_id for found in each if isinstance(found, list) for case_id in found]
    assert sorted(got) == sorted(ids)
