"""Jobs followed, listed, waited for and canceled; what the API refuses. Against the real API."""

from pathlib import Path

import pytest

from deepfake_shield import (
    Counts,
    InvalidRequest,
    NotFound,
    Shield,
    TooLarge,
    Unauthorised,
    WaitTimedOut,
    client,
)
from tests.clients.house import LIMIT, House


def test_waiting_tells_the_counts_until_the_end(house: House, shield: Shield, photos: Path) -> None:
    job = shield.submit(photos)
    assert (job.state, job.ended, job.counts) == ("queued", False, Counts(total=5, pending=5))
    told: list[Counts] = []

    def scan_a_chunk_at_each_look(counts: Counts) -> None:
        told.append(counts)
        house.scan_one_chunk()

    ended = shield.wait(job.id, scan_a_chunk_at_each_look)
    assert [counts.terminal for counts in told] == [0, 4, 5]
    assert ended.ended
    assert ended.counts == Counts(total=5, done=4, failed=1, fake=2, clear=2) == told[-1]
    assert ended.ended_at is not None
    assert ended.created_at is not None
    assert ended.ended_at > ended.created_at


def test_waiting_for_several_jobs_adds_their_counts(house: House, shield: Shield, photos: Path) -> None:
    jobs = [shield.submit(photos).id, shield.submit(photos / "a.jpg").id]
    house.scan_all()
    told: list[Counts] = []
    assert [job.id for job in shield.wait_all(jobs, told.append)] == jobs
    assert told == [Counts(total=6, done=5, failed=1, fake=2, clear=3)]


def test_waiting_no_longer_leaves_the_job_alone(house: House, shield: Shield, photos: Path) -> None:
    job = shield.submit(photos)
    with pytest.raises(WaitTimedOut, match=job.id):
        shield.wait(job.id, timeout=0)
    assert shield.job(job.id).state == "queued"


def test_results_of_a_running_job_are_those_so_far(house: House, shield: Shield, photos: Path) -> None:
    job = shield.submit(photos)
    assert list(shield.results(job.id)) == []
    house.scan_one_chunk()
    assert [Path(result.custom_id or "").name for result in shield.results(job.id)] == [
        "a.jpg",
        "b.PNG",
        "c.webp",
        "d.jpeg",
    ]


def test_lists_are_read_to_their_end(
    house: House, shield: Shield, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE", 2)
    submitted = [shield.submit(photos).id for _ in range(5)]
    assert [job.id for job in shield.jobs()] == submitted[::-1]
    assert len({item.id for item in shield.items(submitted[0])}) == 5
    house.scan_all()
    fakes = [Path(item.custom_id or "").name for item in shield.items(submitted[0], verdict="fake")]
    assert fakes == ["b.PNG", "e.gif"]
    assert [item.error_code for item in shield.items(submitted[0], state="failed")] == ["not_an_image"]


def test_canceling_ends_what_no_worker_holds_and_may_be_repeated(house: House, shield: Shield, photos: Path) -> None:
    job = shield.submit(photos)
    house.scan_one_chunk()
    for _ in range(2):
        canceled = shield.cancel(job.id)
        assert canceled.ended
        assert canceled.counts == Counts(total=5, done=3, failed=1, canceled=1, fake=1, clear=2)
    assert [result.state for result in shield.results(job.id)][-1] == "canceled"


def test_what_failed_is_retried_in_a_new_job(house: House, shield: Shield, photos: Path) -> None:
    job = shield.submit(photos, name="holiday")
    with pytest.raises(InvalidRequest) as caught:
        shield.retry(job.id)
    assert (caught.value.code, caught.value.http_status) == ("job_running", 409)
    house.scan_all()
    again = shield.retry(job.id)
    assert (again.retry_of, again.name, again.counts) == (job.id, "holiday", Counts(total=1, pending=1))
    assert [Path(item.custom_id or "").name for item in shield.items(again.id)] == ["c.webp"]
    assert shield.job(job.id).counts.failed == 1


def test_a_deleted_job_is_gone(house: House, shield: Shield, photos: Path) -> None:
    job, other = shield.submit(photos), shield.submit(photos / "a.jpg")
    with pytest.raises(InvalidRequest, match="cancel it first"):
        shield.delete(job.id)
    house.scan_all()
    shield.delete(job.id)
    assert [one.id for one in shield.jobs()] == [other.id]
    with pytest.raises(NotFound):
        shield.delete(job.id)


def test_a_job_tells_how_far_it_is(house: House, shield: Shield, photos: Path) -> None:
    job = shield.submit(photos)
    assert (job.progress, job.eta_seconds, job.expires_at, job.reason) == (0.0, None, None, None)
    house.scan_one_chunk()
    running = shield.job(job.id)
    assert running.progress == 0.8
    assert running.eta_seconds is not None
    house.scan_one_chunk()
    ended = shield.job(job.id)
    assert (ended.progress, ended.eta_seconds) == (1.0, None)
    assert ended.expires_at is not None
    assert ended.ended_at is not None
    assert ended.expires_at > ended.ended_at


def test_a_wrong_key_is_told(house: House) -> None:
    with Shield(house.url, house.key[:-1] + "?") as shield, pytest.raises(Unauthorised) as caught:
        next(shield.jobs())
    assert (caught.value.code, caught.value.http_status) == ("unauthorised", 401)


def test_anothers_job_is_as_unknown_as_none(house: House, shield: Shield, photos: Path) -> None:
    job = shield.submit(photos)
    with Shield(house.url, house.another_key()) as other:
        for unknown in (job.id, "job_none", "../jobs", "a/b?c"):
            with pytest.raises(NotFound) as caught:
                other.job(unknown)
            assert caught.value.code == "not_found"
        assert list(other.jobs()) == []


def test_too_large_a_file_is_refused_and_makes_no_job(house: House, shield: Shield, tmp_path: Path) -> None:
    (tmp_path / "huge.jpg").write_bytes(bytes(LIMIT + 1))
    with pytest.raises(TooLarge, match="limit") as caught:
        shield.submit(tmp_path)
    assert caught.value.code == "too_large"
    assert list(shield.jobs()) == []


def test_a_url_that_is_none_is_pointed_at(house: House, shield: Shield) -> None:
    with pytest.raises(InvalidRequest) as caught:
        shield.submit(["https://example.com/a.jpg", "http://"])
    assert (caught.value.http_status, caught.value.pointers) == (422, ("/items/1/url",))
