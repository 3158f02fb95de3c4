"""Explanations in SQL: asked for once, held by one worker at a time, and gone with their item."""

from collections.abc import Iterable
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shield import accounts, dispatch, explanations, jobs, retention
from shield.db import Database, now
from shield.errors import NotFound, NothingToExplain, RateLimited
from shield.explanations import Explained, Held
from shield.models import ExplainedFace, Explanation, Face, Item, Job
from shield.states import ExplanationState, Picture, Verdict
from tests.shield.work import WEIGHTS, scanned, submit, take

HOLD = 60.0


def done(session: Session, account_id: str, count: int = 1) -> list[str]:
    """The ids of items with a face each."""
    job = submit(session, account_id, count, chunk_items=64)
    held = take(session)
    dispatch.record(session, held, [scanned(item.id) for item in held.items])
    return [item.id for item in jobs.items(session, job, limit=count)]


def explained(ordinal: int = 0, crop: str = "d" * 64, heatmap: str = "e" * 64) -> Explained:
    return Explained(ordinal, 1.5, 2.0, 40.0, 0.7, (("jpeg_90", 0.69), ("half_size", 0.5)), crop, heatmap)


def take_one(session: Session) -> Held:
    held = explanations.take(session, HOLD)
    assert held is not None
    return held


def answer(session: Session, held: Held, *faces: Explained) -> bool:
    return explanations.record(session, held, Picture.ORIGINAL, WEIGHTS, faces or (explained(),))


def let_holds_run_out(session: Session) -> None:
    session.execute(update(Explanation).values(held_until=now(session) - timedelta(seconds=1)))


def test_what_is_asked_for_is_made_once_and_kept(database: Database, account_id: str) -> None:
    with database.write() as session:
        (item_id,) = done(session, account_id)
        assert explanations.of(session, account_id, item_id) is None
        first = explanations.ask(session, account_id, item_id)
        assert (first.state, first.faces) == (ExplanationState.PENDING, [])
        assert explanations.ask(session, account_id, item_id) is first
    with database.write() as session:
        held = take_one(session)
        assert (held.item_id, held.blob, held.image_width, held.view_blob) == (item_id, f"{0:064x}", 100, "c" * 64)
        assert [(face.ordinal, face.left, face.width) for face in held.faces] == [(0, 1.0, 30.0)]
        assert explanations.take(session, HOLD) is None
        assert answer(session, held)
        assert not answer(session, held)
    with database.write() as session:
        found = explanations.ask(session, account_id, item_id)
        assert (found.state, found.picture, found.weights_sha256) == (
            ExplanationState.READY,
            Picture.ORIGINAL,
            WEIGHTS,
        )
        (face,) = found.faces
        assert (face.side, face.score, face.crop_blob) == (40.0, 0.7, "d" * 64)
        assert dict(face.stability) == {"jpeg_90": 0.69, "half_size": 0.5}
        assert explanations.face(session, account_id, item_id, 0) is face
        with pytest.raises(NotFound, match="face 1"):
            explanations.face(session, account_id, item_id, 1)
        assert explanations.take(session, HOLD) is None


def test_nothing_is_explained_without_a_scored_face(database: Database, account_id: str) -> None:
    with database.write() as session:
        waiting = jobs.items(session, submit(session, account_id, 1), 1)[0].id
        with pytest.raises(NothingToExplain):
            explanations.ask(session, account_id, waiting)
        held = take(session)
        from dataclasses import replace

        dispatch.record(session, held, [replace(scanned(waiting, Verdict.NO_FACE), faces=())])
        with pytest.raises(NothingToExplain):
            explanations.ask(session, account_id, waiting)
        assert explanations.take(session, HOLD) is None


def test_another_accounts_item_is_unknown_and_so_is_a_deleted_jobs(database: Database, account_id: str) -> None:
    with database.write() as session:
        (item_id,) = done(session, account_id)
        explanations.ask(session, account_id, item_id)
        answer(session, take_one(session))
        other = accounts.create_account(session, "other").id
        for account in (other, account_id):
            if account == account_id:
                session.execute(update(Job).values(deleted_at=now(session)))
            for act in (explanations.ask, explanations.of):
                with pytest.raises(NotFound):
                    act(session, account, item_id)
            with pytest.raises(NotFound):
                explanations.face(session, account, item_id, 0)


def test_one_account_cannot_keep_the_others_waiting(
    database: Database, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanations, "WAITING", 2)
    with database.write() as session:
        first, second, third = done(session, account_id, 3)
        for item_id in (first, second):
            explanations.ask(session, account_id, item_id)
        with pytest.raises(RateLimited, match="2 explanations"):
            explanations.ask(session, account_id, third)
        assert explanations.ask(session, account_id, first).state == ExplanationState.PENDING
        other = accounts.create_account(session, "other").id
        explanations.ask(session, other, *done(session, other))
        assert answer(session, take_one(session))
        explanations.ask(session, account_id, third)


def test_who_asked_first_is_answered_first(database: Database, account_id: str) -> None:
    with database.write() as session:
        first, second = done(session, account_id, 2)
        for item_id, seconds in ((first, 1000), (second, 2000)):
            explanations.ask(session, account_id, item_id).asked_at = now(session) - timedelta(seconds=seconds)
            session.flush()
        assert [take_one(session).item_id for _ in range(2)] == [second, first]


def test_a_worker_that_dies_leaves_it_to_the_next_and_three_fail_it(database: Database, account_id: str) -> None:
    with database.write() as session:
        poison, good = done(session, account_id, 2)
        explanations.ask(session, account_id, poison).asked_at = now(session) - timedelta(seconds=1)
    dead: list[Held] = []
    for _ in range(explanations.DEATHS):
        with database.write() as session:
            dead.append(take_one(session))
            assert explanations.take(session, HOLD) is None
            let_holds_run_out(session)
    with database.write() as session:
        assert [held.tries for held in dead] == [1, 2, 3]
        explanations.ask(session, account_id, good)
        assert take_one(session).item_id == good
        found = explanations.of(session, account_id, poison)
        assert found is not None
        assert (found.state, found.reason) == (ExplanationState.FAILED, "poison")
        assert not answer(session, dead[-1])


def test_who_took_it_over_writes_and_who_came_to_late_does_not(database: Database, account_id: str) -> None:
    with database.write() as session:
        explanations.ask(session, account_id, *done(session, account_id))
        late = take_one(session)
        let_holds_run_out(session)
        taker = take_one(session)
        assert not answer(session, late)
        assert not explanations.fail(session, late, "truncated")
        assert not explanations.give_back(session, late)
        assert answer(session, taker)
        assert session.scalar(select(func.count()).select_from(ExplainedFace)) == 1


def test_what_is_given_back_is_nobodys_fault(database: Database, account_id: str) -> None:
    with database.write() as session:
        explanations.ask(session, account_id, *done(session, account_id))
        for _ in range(2 * explanations.DEATHS):
            held = take_one(session)
            assert explanations.give_back(session, held)
            assert not answer(session, held)
        assert take_one(session).tries == 1


def test_what_was_deleted_is_not_looked_at_any_more(database: Database, account_id: str) -> None:
    with database.write() as session:
        (deleted,), (kept,) = done(session, account_id), done(session, account_id)
        for item_id in (deleted, kept):
            explanations.ask(session, account_id, item_id)
        job_id = session.get_one(Item, deleted).job_id
        session.execute(update(Job).where(Job.id == job_id).values(deleted_at=now(session)))
        assert take_one(session).item_id == kept
        row = session.get_one(Explanation, deleted)
        assert (row.state, row.reason, row.tries) == (ExplanationState.FAILED, "image_gone", 0)


def test_the_faces_with_the_highest_scores_are_explained(database: Database, account_id: str) -> None:
    with database.write() as session:
        (item_id,) = done(session, account_id)
        for ordinal in range(1, explanations.FACES + 4):
            row = {"item_id": item_id, "account_id": account_id, "detection_score": 0.9, "landmarks": []}
            session.add(Face(**row, ordinal=ordinal, left=0, top=0, width=9, height=9, score=ordinal / 100))
        explanations.ask(session, account_id, item_id)
        ordinals = [face.ordinal for face in take_one(session).faces]
        assert ordinals == [0, *range(explanations.FACES + 3, 4, -1)]


def purge(session: Session, job_id: str) -> Iterable[str]:
    """Purge a job; the blobs that were to be removed before its rows."""
    waste = retention.next_waste(session, job_id, 100)
    assert waste is not None
    retention.purge_items(session, job_id, waste.last)
    return waste.blobs


def test_an_explanation_goes_with_its_item_and_its_pictures_with_the_last_that_names_them(
    database: Database, account_id: str
) -> None:
    crop, heatmap, alone = "1" * 63 + "a", "1" * 63 + "b", "1" * 63 + "c"
    with database.write() as session:
        job_ids = []
        for blobs in ((crop, heatmap), (crop, alone)):
            (item_id,) = done(session, account_id)
            explanations.ask(session, account_id, item_id)
            answer(session, take_one(session), explained(0, *blobs))
            job_ids.append(session.get_one(Item, item_id).job_id)
        strays = ["f" * 64, crop, heatmap, alone]
        assert retention.unnamed(session, strays) == ["f" * 64]
        first = purge(session, job_ids[0])
        assert heatmap in first
        assert not {crop, alone} & set(first)
        assert set(retention.unnamed(session, strays)) == {"f" * 64, heatmap}
        assert {crop, alone} <= set(purge(session, job_ids[1]))
        assert session.scalar(select(func.count()).select_from(Explanation)) == 0


def test_a_picture_of_a_face_that_somebody_uploads_again_stays(database: Database, account_id: str) -> None:
    with database.write() as session:
        (item_id,) = done(session, account_id)
        explanations.ask(session, account_id, item_id)
        answer(session, take_one(session), explained(0, "1" * 63 + "a"))
        jobs.submit(session, account_id, [jobs.NewItem(blob="1" * 63 + "a")], 4)
        assert "1" * 63 + "a" not in purge(session, session.get_one(Item, item_id).job_id)
