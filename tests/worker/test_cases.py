"""What a worker flags, or draws for the sample, is a case; what a house sweeps is open again."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import select, update

from shield import claims
from shield.claims import Reviewer
from shield.db import now
from shield.models import Case, Job
from shield.states import Role
from tests.worker.conftest import House
from tests.worker.stub import CARD, StubScanner
from worker.app import register
from worker.scan import Scanning
from worker.sweep import sweep_claims


def cases_of(house: House, job: Job) -> list[tuple[str, str, str | None]]:
    with house.database.read() as session:
        rows = session.scalars(select(Case).where(Case.job_id == job.id).order_by(Case.item_id))
        return [(row.reason, row.verdict, row.image_hash) for row in rows]


def test_what_is_flagged_opens_a_case_with_its_looks_also_where_it_was_measured_before(house: House) -> None:
    flagged = ("flagged", "fake", "0123456789abcdef")
    for _ in range(2):
        job = house.submit(b"face 1", b"none 2", b"broken")
        house.scanning(StubScanner()).scan_ready()
        assert cases_of(house, job) == [flagged]


def test_of_a_policy_that_draws_all_for_review_every_image_that_was_scanned_opens_a_case(house: House) -> None:
    job = house.submit(b"face 1", b"none 2", b"broken")
    policy = replace(register(house.database, CARD), review_share=1.0)
    Scanning(house.database, house.blobs, StubScanner(), policy, house.config).scan_ready()
    assert [case[:2] for case in cases_of(house, job)] == [("flagged", "fake"), ("sample", "no_face")]


def test_the_house_opens_cases_whose_reviewers_left(house: House) -> None:
    house.submit(b"face 1")
    house.scanning(StubScanner()).scan_ready()
    with house.database.write() as session:
        claim = claims.claim_next(session, house.account_id, Reviewer("mod_anna", Role.MODERATOR), 60)
        assert claim is not None
    assert sweep_claims(house.database) == 0
    with house.database.write() as session:
        session.execute(update(Case).values(claimed_until=now(session) - timedelta(seconds=1)))
    assert sweep_claims(house.database) == 1
    with house.database.read() as session:
        assert session.scalars(select(Case.state)).one() == "open"
