"""Cases are opened with the result that they are about, and queue in an order that pages can follow."""

import pytest
from sqlalchemy import func, select

from shield import accounts, cases, claims, dispatch, retention
from shield.cases import CaseFilter, Sort
from shield.db import Database
from shield.errors import InvalidSubmission, NotFound
from shield.models import Case, CasePiece, Decision, Item
from shield.states import CaseReason, CaseState, Role, Verdict
from tests.shield.reviewing import (
    ANNA,
    CLEAR,
    ESCALATE,
    FAKE,
    LEAD,
    OVERTURN,
    SUSPECT,
    answer,
    expire,
    hold,
    open_cases,
    order,
    read,
)
from tests.shield.work import failed, scanned, submit, take


def test_a_flagged_item_and_a_sampled_one_open_a_case_each_and_no_other_does(
    database: Database, account_id: str
) -> None:
    seen = [(FAKE, 0.9), (SUSPECT, 0.6), (CLEAR, 0.1), (Verdict.NO_FACE, 0.0), (Verdict.INCONCLUSIVE, 0.0)]
    flagged = open_cases(database, account_id, seen, looks=["00ff00ff00ff00ff"] * 5)
    assert len(flagged) == 2
    [sample] = open_cases(database, account_id, [(CLEAR, 0.1)], sample=True)
    case = read(database, account_id, flagged[0])
    assert (case.state, case.level, case.reason, case.verdict, case.score) == (
        "open",
        "moderator",
        "flagged",
        "fake",
        0.9,
    )
    assert case.image_hash == case.item.image_hash == "00ff00ff00ff00ff"
    assert (case.item.custom_id, len(case.item.faces), case.job.id) == ("photo 0", 1, case.job_id)
    assert read(database, account_id, sample).reason == "sample"


def test_what_is_flagged_and_drawn_for_the_sample_is_one_case(database: Database, account_id: str) -> None:
    [case] = open_cases(database, account_id, [(FAKE, 0.9)], sample=True)
    assert read(database, account_id, case).reason == "flagged"


def test_a_result_that_is_recorded_twice_opens_one_case(database: Database, account_id: str) -> None:
    with database.write() as session:
        submit(session, account_id, 2)
        held = take(session)
        outcome = scanned(held.items[0].id, FAKE)
        assert dispatch.record(session, held, [outcome]) == 1
        assert dispatch.record(session, held, [outcome, failed(held.items[1].id)]) == 1
        assert session.scalar(select(func.count()).select_from(Case)) == 1


def test_by_priority_come_fakes_then_suspects_by_falling_score_then_samples_and_what_was_escalated_first(
    database: Database, account_id: str
) -> None:
    [sample] = open_cases(database, account_id, [(CLEAR, 0.4)], sample=True)
    low, suspect, high, other = open_cases(
        database, account_id, [(FAKE, 0.81), (SUSPECT, 0.79), (FAKE, 0.99), (SUSPECT, 0.6)]
    )
    assert order(database, account_id) == [high, low, suspect, other, sample]
    answer(database, account_id, other, ESCALATE)
    assert order(database, account_id) == [other, high, low, suspect, sample]
    assert order(database, account_id, role=Role.MODERATOR) == [high, low, suspect, sample]


def test_by_age_the_oldest_comes_first_and_by_score_the_highest(database: Database, account_id: str) -> None:
    each = [open_cases(database, account_id, [(SUSPECT, score)])[0] for score in (0.6, 0.7, 0.5)]
    assert order(database, account_id, Sort.AGE) == each
    assert order(database, account_id, Sort.SCORE) == [each[1], each[0], each[2]]


@pytest.mark.parametrize("sort", Sort)
def test_pages_follow_one_another_without_a_gap_and_without_a_repetition(
    database: Database, account_id: str, sort: Sort
) -> None:
    open_cases(database, account_id, [(FAKE, 0.9)] * 4 + [(SUSPECT, 0.6)] * 3 + [(FAKE, 0.95)])
    whole = order(database, account_id, sort)
    found: list[str] = []
    with database.read() as session:
        while page := cases.queue(session, account_id, Role.LEAD, 3, sort, after=found[-1] if found else None):
            found += [case.id for case in page]
    assert found == whole
    assert len(set(found)) == 8


def test_decided_cases_come_the_latest_decision_first_page_by_page(database: Database, account_id: str) -> None:
    ids = open_cases(database, account_id, [(FAKE, 0.9)] * 4)
    decided = [ids[2], ids[0], ids[3]]
    for case_id in decided:
        answer(database, account_id, case_id)
    with database.read() as session:
        wanted = CaseFilter(state=CaseState.DECIDED)
        first = cases.queue(session, account_id, Role.MODERATOR, 2, wanted=wanted)
        second = cases.queue(session, account_id, Role.MODERATOR, 2, wanted=wanted, after=first[-1].id)
    assert [case.id for case in first + second] == decided[::-1]
    assert order(database, account_id) == [ids[1]]


def test_filters_narrow_by_verdict_job_reason_level_state_and_name(database: Database, account_id: str) -> None:
    fake, suspect, escalated, claimed = open_cases(
        database, account_id, [(FAKE, 0.9), (SUSPECT, 0.6), (FAKE, 0.91), (FAKE, 0.92)]
    )
    [sample] = open_cases(database, account_id, [(CLEAR, 0.1)], sample=True)
    answer(database, account_id, escalated, ESCALATE)
    hold(database, account_id, claimed)
    job_id = read(database, account_id, fake).job_id

    def found(wanted: CaseFilter) -> set[str]:
        with database.read() as session:
            return {case.id for case in cases.queue(session, account_id, Role.LEAD, 100, wanted=wanted)}

    assert found(CaseFilter(verdict=SUSPECT)) == {suspect}
    assert found(CaseFilter(job_id=job_id)) == {fake, suspect, escalated, claimed}
    assert found(CaseFilter(reason=CaseReason.SAMPLE)) == {sample}
    assert found(CaseFilter(level=Role.LEAD)) == {escalated}
    assert found(CaseFilter(state=CaseState.OPEN)) == {fake, suspect, escalated, sample}
    assert found(CaseFilter(state=CaseState.CLAIMED)) == {claimed}
    assert found(CaseFilter(name="PHOTO 1", job_id=job_id)) == {suspect}
    assert found(CaseFilter(name="%")) == found(CaseFilter(name="photo_")) == set()
    expire(database, claimed)
    assert claimed in found(CaseFilter(state=CaseState.OPEN))
    assert found(CaseFilter(state=CaseState.CLAIMED)) == set()


def test_a_name_is_looked_for_among_the_first_cases_of_the_others(
    database: Database, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "SEARCHED", 2)
    ids = open_cases(database, account_id, [(FAKE, 0.95), (FAKE, 0.9), (SUSPECT, 0.6), (SUSPECT, 0.5)])

    def found(name: str, after: str | None = None, verdict: Verdict | None = None) -> list[str]:
        with database.read() as session:
            wanted = CaseFilter(verdict, name=name)
            rows = cases.queue(session, account_id, Role.LEAD, 100, Sort.SCORE, wanted, after)
            following = claims.peek_next(session, account_id, ANNA, Sort.SCORE, wanted)
            assert after or following is rows[0] if rows else following is None
        return [case.id for case in rows]

    assert found("photo") == ids[:2]
    assert found("photo 1") == [ids[1]]
    assert found("photo 2") == []
    assert found("photo 2", verdict=SUSPECT) == found("photo 2", after=ids[1]) == [ids[2]]


def test_counts_and_campaigns_say_what_there_is_to_do(database: Database, account_id: str) -> None:
    first = open_cases(database, account_id, [(FAKE, 0.9)] * 3)
    second = open_cases(database, account_id, [(FAKE, 0.9)] * 5)
    done = open_cases(database, account_id, [(FAKE, 0.9)])
    answer(database, account_id, done[0])
    answer(database, account_id, first[0], ESCALATE)
    answer(database, account_id, second[0], OVERTURN)
    hold(database, account_id, second[1])
    hold(database, account_id, second[2])
    expire(database, second[2])
    with database.read() as session:
        found = cases.counts(session, account_id)
        campaigns = cases.campaigns(session, account_id)
        newest = cases.campaigns(session, account_id, most=1)
        assert cases.campaigns(session, "acc_other") == []
    assert (found.open, found.escalated, found.claimed, found.decided) == (5, 1, 1, 2)
    assert [campaign.undecided for campaign in campaigns] == [4, 3]
    assert campaigns[1].job_id == read(database, account_id, first[0]).job_id
    assert newest == campaigns[:1]


def test_another_accounts_case_reads_like_an_unknown_one(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)])
    item_id = read(database, account_id, case_id).item_id
    with database.write() as session:
        other = accounts.create_account(session, "other").id
        assert cases.queue(session, other, Role.ADMIN, 10) == []
        assert cases.of_item(session, other, item_id) is None
        assert claims.claim_next(session, other, LEAD, 60) is None
        for ask in (
            lambda: cases.get(session, other, case_id),
            lambda: claims.claim(session, other, case_id, LEAD, 60),
        ):
            with pytest.raises(NotFound):
                ask()
        with pytest.raises(InvalidSubmission, match="begin with the first page"):
            cases.queue(session, other, Role.ADMIN, 10, after=case_id)
        found = cases.of_item(session, account_id, item_id)
        assert found is not None
        assert found.id == case_id


def test_the_cases_of_a_deleted_job_are_hidden_at_once_and_gone_with_their_decisions_soon(
    database: Database, account_id: str
) -> None:
    decided, waiting, held = open_cases(database, account_id, [(FAKE, 0.9)] * 3, looks=["0123456789abcdef"] * 3)
    [kept] = open_cases(database, account_id, [(FAKE, 0.9)], looks=["0123456789abcdef"])
    for case_id in (decided, kept):
        answer(database, account_id, case_id)
    token = hold(database, account_id, held)
    with database.write() as session:
        retention.delete_job(session, account_id, cases.get(session, account_id, decided).job_id, "operator")
        for case_id in (decided, waiting, held):
            with pytest.raises(NotFound):
                cases.get(session, account_id, case_id)
        with pytest.raises(NotFound):
            claims.renew(session, account_id, held, token, 60)
        assert claims.claim_next(session, account_id, ANNA, 60) is None
        assert cases.counts(session, account_id) == cases.Counts(0, 0, 0, 1)
        assert cases.campaigns(session, account_id) == []
        assert [retention.forget_cases(session, 2) for _ in range(3)] == [2, 1, 0]
        for table in (Case.id, Decision.case_id, CasePiece.case_id):
            assert set(session.scalars(select(table))) == {kept}


def test_the_purge_takes_what_is_left_of_cases_with_their_items(database: Database, account_id: str) -> None:
    [case_id] = open_cases(database, account_id, [(FAKE, 0.9)], looks=["0123456789abcdef"])
    answer(database, account_id, case_id)
    job_id = read(database, account_id, case_id).job_id
    with database.write() as session:
        retention.purge_items(session, job_id, 0)
        for table in (Case, Decision, CasePiece, Item):
            assert session.scalar(select(func.count()).select_from(table)) == 0
