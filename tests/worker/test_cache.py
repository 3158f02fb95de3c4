"""Equal bytes are scanned once for each model, across the jobs of one account."""

import dataclasses
import io
from datetime import UTC, datetime

from sqlalchemy import update

from shield import accounts, jobs
from shield.jobs import NewItem
from shield.models import Job
from shield.policy import Policy
from tests.worker.conftest import House
from tests.worker.stub import CARD, StubScanner
from worker.scan import Scanning

IMAGE = ("image_width", "image_height", "image_format", "image_sha256", "image_hash", "view_blob")
JUDGED = ("verdict", "score", "reasons", *IMAGE)


def cached(house: House, job: Job) -> list[bool]:
    return [item.from_cache for item in house.items(job)]


def scan(house: House, *images: bytes) -> tuple[Job, list[list[bytes]]]:
    """Scan a job of these; the job, and what the networks were given."""
    job, scanner = house.submit(*images), StubScanner()
    scanning = house.scanning(scanner)
    while scanning.scan_ready():
        pass
    return job, scanner.batches


def test_what_an_earlier_job_measured_is_not_scanned_again(house: House) -> None:
    first, _ = scan(house, b"face 1", b"none 2")
    second, batches = scan(house, b"none 2", b"face 3", b"face 1")
    assert batches == [[b"face 3"]]
    assert house.outcomes(second) == ["no_face", "fake", "fake"]
    assert (cached(house, first), cached(house, second)) == ([False, False], [True, False, True])
    scanned, copied = house.items(first)[0], house.items(second)[2]
    assert [getattr(copied, name) for name in JUDGED] == [getattr(scanned, name) for name in JUDGED]
    faces = [[(f.left, f.top, f.width, f.height, f.detection_score, f.score, f.landmarks) for f in item.faces]
             for item in (scanned, copied)]  # fmt: skip
    assert faces[0] == faces[1] != []
    assert copied.image_hash == "0123456789abcdef"
    house.check()


def test_equal_images_of_a_batch_are_scanned_once_also_across_jobs(house: House) -> None:
    other = house.submit(b"face 1", b"face 2")
    job, batches = scan(house, b"face 1", b"face 1", b"none 3")
    assert batches == [[b"face 1", b"face 2", b"none 3"]]
    assert (cached(house, other), cached(house, job)) == ([False, False], [True, True, False])
    assert house.outcomes(job) == ["fake", "fake", "no_face"]
    house.check()


def test_a_copy_is_judged_anew_and_can_be_copied_itself(house: House) -> None:
    scan(house, b"face 1")
    job = house.submit(b"face 1")
    lenient = Policy("lenient", fake=1.0, suspect=0.95)
    Scanning(house.database, house.blobs, StubScanner(), lenient, house.config).scan_ready()
    (item,) = house.items(job)
    assert (item.verdict, item.policy_version, item.from_cache) == ("clear", "lenient", True)
    again, batches = scan(house, b"face 1")
    assert (house.outcomes(again), cached(house, again), batches) == (["fake"], [True], [])


def test_another_accounts_result_is_not_copied(house: House) -> None:
    scan(house, b"face 1")
    with house.database.write() as session:
        account = accounts.create_account(session, "other").id
        blob = house.blobs.put(io.BytesIO(b"face 1"), 100)
        other = jobs.submit(session, account, [NewItem(blob=blob), NewItem(blob=blob)], 4)
    job, batches = scan(house, b"face 1")
    assert batches == [[b"face 1"]]  # for the other account
    with house.database.read() as session:
        assert [item.from_cache for item in jobs.items(session, other, 10)] == [False, True]
    assert cached(house, job) == [True]


def test_other_weights_scan_again(house: House) -> None:
    scan(house, b"face 1")
    job, scanner = house.submit(b"face 1"), StubScanner()
    scanner.card = dataclasses.replace(CARD, files={"safetensors": {"file": "x", "sha256": "b" * 64}})
    assert house.scanning(scanner).scan_ready()
    assert scanner.batches == [[b"face 1"]]
    assert cached(house, job) == [False]


def test_what_failed_is_tried_again_and_fails_each_of_its_equals(house: House) -> None:
    first, _ = scan(house, b"broken", b"broken", b"raise 1", b"raise 1", b"face 1")
    assert house.outcomes(first) == ["truncated", "truncated", "scan_failed", "scan_failed", "fake"]
    second, batches = scan(house, b"broken")
    assert (house.outcomes(second), batches) == (["truncated"], [[b"broken"]])
    house.check()


def test_a_deleted_jobs_result_is_not_copied(house: House) -> None:
    first, _ = scan(house, b"face 1")
    with house.database.write() as session:
        session.execute(update(Job).where(Job.id == first.id).values(deleted_at=datetime.now(UTC)))
    second, batches = scan(house, b"face 1")
    assert (cached(house, second), batches) == ([False], [[b"face 1"]])


def test_more_images_than_one_query_asks_for_are_found(house: House) -> None:
    images = [b"face %d" % n for n in range(450)]
    scan(house, *images)
    job, scanner = house.submit(*images), StubScanner()
    assert house.scanning(scanner, batch_images=600).scan_ready()
    assert (scanner.batches, cached(house, job)) == ([], [True] * 450)


def test_an_image_that_comes_a_thousand_times_is_copied_each_time(house: House) -> None:
    scan(house, b"face 1")
    job, batches = scan(house, *[b"face 1"] * 1000)
    assert (batches, cached(house, job)) == ([], [True] * 1000)
    assert {item.view_blob for item in house.items(job)} == {house.items(job)[0].view_blob}
    house.check()
