"""Searching and sorting the photos of a job."""

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from shield import gallery, jobs
from shield.db import Database
from shield.errors import InvalidSubmission
from shield.gallery import Look
from shield.jobs import NewItem
from shield.models import Item, Job
from shield.states import Verdict

NAMES = ("Beach.jpg", "beach 100%.jpg", "wood_1.jpg", "wood-1.jpg", "BEACHES/a.jpg")
SCORES = (0.2, None, 0.9, 0.2, 0.0)


def a_job(session: Session, account_id: str) -> Job:
    """Photos of these names, with these scores: nothing but the gallery looks at them."""
    items = [NewItem(url="https://images.example/x.jpg", custom_id=name) for name in NAMES]
    job = jobs.submit(session, account_id, items, 64)
    jobs.submit(session, account_id, items, 64)  # whose photos are never among them
    for ordinal, score in enumerate(SCORES):
        session.execute(update(Item).where(Item.job_id == job.id, Item.ordinal == ordinal).values(score=score))
    return job


def ordinals(session: Session, job: Job, look: Look, limit: int = 10, after: str | None = None) -> list[int]:
    return [item.ordinal for item in gallery.items(session, job, look, limit, after)]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("beach", [0, 1, 4]),
        ("BEACH", [0, 1, 4]),
        ("100%", [1]),
        ("%", [1]),
        ("wood_", [2]),
        ("a.jpg", [4]),
        ("\\", []),
        ("' or 1=1 --", []),
    ],
)
def test_a_search_finds_what_names_hold_and_nothing_else(
    database: Database, account_id: str, search: str, found: list[int]
) -> None:
    with database.write() as session:
        job = a_job(session, account_id)
        assert ordinals(session, job, Look(search=search)) == found


def test_the_highest_score_comes_first_and_no_score_last_on_every_page(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = a_job(session, account_id)
        look, after, seen = Look(by_score=True), None, list[int]()
        while page := gallery.items(session, job, look, 2, after):
            seen += [item.ordinal for item in page]
            after = page[-1].id
        assert seen == [2, 0, 3, 4, 1]
        assert ordinals(session, job, Look(by_score=True, search="beach")) == [0, 4, 1]


def test_a_search_goes_on_after_a_photo(database: Database, account_id: str) -> None:
    with database.write() as session:
        job = a_job(session, account_id)
        [first, *_] = gallery.items(session, job, Look(search="beach"), 1)
        assert ordinals(session, job, Look(search="beach"), after=first.id) == [1, 4]
        with pytest.raises(InvalidSubmission, match="is no item of"):
            gallery.items(session, job, Look(search="beach"), 1, "itm_x")


def test_too_many_photos_are_neither_searched_nor_sorted(
    database: Database, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "MOST", 4)
    with database.write() as session:
        job = a_job(session, account_id)
        assert not gallery.sortable(job, Look())
        assert gallery.sortable(job, Look(verdict=Verdict.FAKE))
        assert ordinals(session, job, Look()) == [0, 1, 2, 3, 4]
        for look in (Look(search="a"), Look(by_score=True)):
            with pytest.raises(InvalidSubmission, match="show those of one verdict first"):
                gallery.items(session, job, look, 1)
