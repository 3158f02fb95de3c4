"""Expanding: manifests and zips become items in steps, whatever dies in between, and a bad line harms no other."""

import io
import json
import os
import subprocess
import sys

import pytest
from sqlalchemy import func, select

from shield import accounts, expansion, jobs
from shield.models import Item, Job, Source
from shield.settings import MIB
from shield.states import SourceKind
from shield.streams import stream_of
from tests import zips
from tests.worker.conftest import ROOT, House
from tests.worker.stub import StubScanner
from worker.expand import STEP, Expander

LINES = STEP[SourceKind.MANIFEST]


def line(number: int) -> bytes:
    return json.dumps({"url": f"https://example.org/{number}.jpg", "custom_id": str(number)}).encode() + b"\n"


def begin(house: House, content: bytes, kind: SourceKind = SourceKind.MANIFEST, account_id: str = "") -> Job:
    """An expanding job of these stored bytes."""
    blob = house.blobs.put(io.BytesIO(content), 10**9)
    with house.database.write() as session:
        return expansion.submit(session, account_id or house.account_id, kind, blob=blob)


def expander(house: House, **changes: object) -> Expander:
    return Expander(house.database, house.blobs, house.config.model_copy(update=changes))


def expand(house: House, **changes: object) -> None:
    """Take turns until no job expands."""
    taken = expander(house, **changes)
    while taken.turn():
        pass


def custom_ids(house: House, job: Job) -> list[str | None]:
    with house.database.read() as session:
        return list(session.scalars(select(Item.custom_id).where(Item.job_id == job.id).order_by(Item.ordinal)))


def rejected(house: House, job: Job) -> list[tuple[int, str]]:
    with house.database.read() as session:
        return [(row.position, row.code) for row in expansion.rejections(session, job, 2000)]


def test_every_line_becomes_an_item_in_its_order(house: House) -> None:
    job = begin(house, b"".join(line(n) for n in range(2 * LINES + 3)))
    expand(house)
    row = house.job(job)
    assert (row.state, row.total, row.rejected) == ("queued", 2 * LINES + 3, 0)
    assert custom_ids(house, job) == [str(n) for n in range(2 * LINES + 3)]
    house.check()


def test_bad_lines_are_reported_by_number_and_good_ones_go_on(house: House) -> None:
    content = b"".join(
        (
            b"\xef\xbb\xbf" + line(1).strip() + b"\r\n",
            b"\n  \n",
            b"{broken\n",
            b"[1]\n",
            b'{"url": "ftp://example.org/x"}\n',
            b'{"url": "https://example.org/x", "upload": "upl_' + b"0" * 27 + b'"}\n',
            b'{"custom_id": "no source"}\n',
            b'{"url": "https://example.org/x", "\\u0000\\ud800": 1}\n',
            b'{"url": "https://example.org/x", "\\u0000": 1}\n',
            b'{"url": "https://example.org/' + b"x" * 70_000 + b'"}\n',
            b'{"upload": "upl_' + b"0" * 27 + b'"}\n',
            b'{"url": "s3://nobody/granted.jpg"}\n',
            b'{"url": "s3://nobody/"}\n',
            b"\xff\xfe\n",
            b"[" * 5000 + b"\n",
            line(2).strip(),
        )
    )
    job = begin(house, content)
    expand(house)
    assert custom_ids(house, job) == ["1", "2"]
    assert rejected(house, job) == [
        (4, "not_json"),
        (5, "invalid_item"),
        (6, "invalid_item"),
        (7, "invalid_item"),
        (8, "invalid_item"),
        (9, "not_json"),
        (10, "invalid_item"),
        (11, "line_too_long"),
        (12, "unknown_upload"),
        (13, "s3_forbidden"),
        (14, "invalid_item"),
        (15, "not_json"),
        (16, "not_json"),
    ]
    row = house.job(job)
    assert (row.state, row.total, row.rejected) == ("queued", 2, 13)
    with house.database.read() as session:
        details = {row.position: row.detail for row in expansion.rejections(session, job, 100)}
    assert details[6] == "/url: not an http, https or s3 URL with a host"
    assert "\0" not in details[10]
    house.check()


def test_a_job_of_bad_lines_alone_ends_without_an_item(house: House) -> None:
    job = begin(house, b"{}\nno\n")
    expand(house)
    row = house.job(job)
    assert (row.state, row.total, row.rejected, row.reason) == ("ended", 0, 2, None)
    assert rejected(house, job) == [(1, "invalid_item"), (2, "not_json")]


def test_lines_beyond_the_limit_are_rejected_once_and_not_read(house: House) -> None:
    job = begin(house, b"".join(line(n) for n in range(20)))
    expand(house, max_source_items=7)
    assert custom_ids(house, job) == [str(n) for n in range(7)]
    assert rejected(house, job) == [(8, "too_many_items")]
    assert house.job(job).state == "queued"


def test_as_many_lines_as_the_limit_are_all_taken(house: House) -> None:
    job = begin(house, b"".join(line(n) for n in range(7)) + b"\n")
    expand(house, max_source_items=8)
    assert (house.job(job).total, rejected(house, job)) == (7, [])


def test_another_process_goes_on_where_one_was_killed_between_steps(house: House) -> None:
    job = begin(house, b"".join(line(n) for n in range(3 * LINES)))
    assert expander(house).turn()
    assert house.job(job).total == LINES
    expand(house)
    assert custom_ids(house, job) == [str(n) for n in range(3 * LINES)]
    house.check()


def test_a_step_that_died_before_its_commit_is_taken_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job = begin(house, b"".join(line(n) for n in range(2 * LINES)))
    killed = iter([True, False, True, False, False])
    add_items = jobs.add_items

    def add_and_die(*args: object) -> None:
        add_items(*args)  # type: ignore[arg-type]
        if next(killed):
            raise KeyboardInterrupt

    monkeypatch.setattr(expansion, "add_items", add_and_die)
    taken = expander(house)
    for total in (0, LINES):
        with pytest.raises(KeyboardInterrupt):
            taken.turn()
        assert house.job(job).total == total
        assert taken.turn()
    expand(house)
    assert custom_ids(house, job) == [str(n) for n in range(2 * LINES)]
    house.check()


def test_two_processes_at_once_take_no_line_twice(house: House) -> None:
    job = begin(house, b"".join(line(n) for n in range(3 * LINES)))
    first, second = expander(house), expander(house)
    here = first._next()
    assert here is not None
    step = first._read(here)
    assert second.turn()
    with house.database.write() as session:
        assert not expansion.advance(session, here, step, 4)
    while first.turn() or second.turn():
        pass
    assert custom_ids(house, job) == [str(n) for n in range(3 * LINES)]
    house.check()


def test_a_cancel_between_two_steps_ends_the_job(house: House) -> None:
    job = begin(house, b"".join(line(n) for n in range(3 * LINES)))
    taken = expander(house)
    assert taken.turn()
    jobs.cancel(house.database, house.account_id, job.id)
    assert not taken.turn()
    row = house.job(job)
    assert (row.state, row.total, row.canceled) == ("ended", LINES, LINES)
    house.check()


def test_two_jobs_take_turns_and_the_short_one_does_not_wait_for_the_long_one(house: House) -> None:
    with house.database.write() as session:
        other = accounts.create_account(session, "other").id
    long = begin(house, b"".join(line(n) for n in range(20 * LINES)))
    short = begin(house, b"".join(line(n) for n in range(LINES // 2)), account_id=other)
    sibling = begin(house, line(0))
    taken = expander(house)
    for _ in range(4):
        assert taken.turn()
    with house.database.read() as session:
        assert {jobs.get(session, other, short.id).state, house.job(sibling).state} == {"queued"}
    assert 0 < house.job(long).total <= 3 * LINES


def test_a_source_waits_while_its_account_fills_the_backlog_and_others_go_on(house: House) -> None:
    with house.database.write() as session:
        other = accounts.create_account(session, "other").id
    long = begin(house, b"".join(line(n) for n in range(3 * LINES)))
    taken = expander(house, max_backlog_items=LINES - 1)
    assert taken.turn()
    assert not taken.turn()
    assert (house.job(long).state, house.job(long).total) == ("expanding", LINES)
    begin(house, line(1), account_id=other)
    assert taken.turn()
    assert not taken.turn()
    jobs.cancel(house.database, house.account_id, long.id)
    third = begin(house, line(1))
    assert taken.turn()
    assert house.job(third).state == "queued"
    house.check()


def test_a_source_that_reaches_its_accounts_quota_waits_and_others_go_on(house: House) -> None:
    with house.database.write() as session:
        other = accounts.create_account(session, "other").id
    long = begin(house, b"".join(line(n) for n in range(3 * LINES)))
    taken = expander(house, max_items_per_day=LINES)
    assert taken.turn()
    assert not taken.turn()
    assert (house.job(long).state, house.job(long).total) == ("expanding", LINES)
    begin(house, line(1), account_id=other)
    assert taken.turn()
    assert not taken.turn()
    house.check()


def test_a_job_is_scanned_while_it_expands_and_ends_with_its_last_item(house: House) -> None:
    content = zips.zip_of(*((f"{n}.jpg", f"face {n}".encode()) for n in range(STEP[SourceKind.ZIP] + 1)))
    job = begin(house, content, SourceKind.ZIP)
    taken, scanning = expander(house), house.scanning(StubScanner())
    assert taken.turn()
    while scanning.scan_ready():
        pass
    row = house.job(job)
    assert (row.state, row.done, row.total) == ("expanding", STEP[SourceKind.ZIP], STEP[SourceKind.ZIP])
    while taken.turn():
        pass
    assert house.job(job).state == "running"
    while scanning.scan_ready():
        pass
    assert house.ended(job)
    house.check()


def test_members_of_a_zip_become_items_by_their_names_and_folders_do_not(house: House) -> None:
    nested = zips.zip_of(("inner.jpg", b"x"))
    job = begin(
        house, zips.zip_of(("d/", b""), ("d/a.jpg", b"face a"), ("n.zip", nested), ("", b"none")), SourceKind.ZIP
    )
    expand(house)
    items = house.items(job)
    assert [item.custom_id for item in items] == ["d/a.jpg", "n.zip"]
    assert [house.blobs.get(item.source_blob or "") for item in items] == [b"face a", nested]
    assert rejected(house, job) == []
    assert not list(house.config.home.rglob("a.jpg"))


def test_members_that_lie_or_are_too_large_are_rejected_and_their_neighbours_go_on(house: House) -> None:
    limit = house.config.max_image_bytes
    content = zips.zip_of(
        ("a.jpg", b"face a"), ("lies.jpg", bytes(5000)), ("large.jpg", bytes(limit + 1)), ("b.jpg", b"face b")
    )
    job = begin(house, zips.patched(content, zips.UNPACKED, 100, member=1), SourceKind.ZIP)
    expand(house)
    assert custom_ids(house, job) == ["a.jpg", "b.jpg"]
    assert rejected(house, job) == [(2, "damaged_member"), (3, "too_large")]


def test_a_zip_is_gone_on_with_where_a_process_was_killed(house: House) -> None:
    names = [f"{n}.jpg" for n in range(2 * STEP[SourceKind.ZIP] + 5)]
    job = begin(house, zips.zip_of(*((name, name.encode()) for name in names)), SourceKind.ZIP)
    assert expander(house).turn()
    assert house.job(job).total == STEP[SourceKind.ZIP]
    expand(house)
    assert custom_ids(house, job) == names
    house.check()


def test_a_step_is_cut_short_when_the_house_stops(house: House) -> None:
    job = begin(house, b"".join(line(n) for n in range(5)))
    taken = expander(house)
    taken.stopping.set()
    assert taken.turn()
    assert house.job(job).total == 1
    expand(house)
    assert custom_ids(house, job) == [str(n) for n in range(5)]


def test_a_source_whose_blob_is_gone_ends_its_job_with_a_reason_and_keeps_its_items(house: House) -> None:
    job = begin(house, b"".join(line(n) for n in range(2 * LINES)))
    taken = expander(house)
    assert taken.turn()
    with house.database.read() as session:
        blob = session.get_one(Source, job.id).blob
    house.blobs.path(blob or "").unlink()
    assert taken.turn()
    row = house.job(job)
    assert (row.state, row.reason, row.total) == ("queued", "source_failed", LINES)
    assert "no blob" in (row.reason_detail or "")
    assert not taken.turn()


def test_a_zip_that_breaks_in_the_middle_ends_its_job_with_a_reason(house: House) -> None:
    members = [(f"{n}.jpg", b"x") for n in range(STEP[SourceKind.ZIP] + 5)]
    content = zips.zip_of(*members)
    last = content.rindex(zips.ENTRY)
    job = begin(house, content[:last] + b"PK\1\3" + content[last + 4 :], SourceKind.ZIP)
    expand(house)
    row = house.job(job)
    assert (row.state, row.reason, row.total) == ("queued", "source_failed", STEP[SourceKind.ZIP])
    assert "damaged" in (row.reason_detail or "")
    house.check()


def test_a_fault_of_ours_fails_one_job_and_no_other(house: House, caplog: pytest.LogCaptureFixture) -> None:
    broken, fine = begin(house, line(0)), begin(house, line(0))
    with house.database.write() as session:
        session.get_one(Source, broken.id).cursor = "not an offset"
    expand(house)
    row = house.job(broken)
    assert (row.state, row.reason) == ("ended", "source_failed")
    assert "ValueError" in (row.reason_detail or "")
    assert house.job(fine).total == 1
    assert broken.id in caplog.text


def test_memory_does_not_grow_with_a_manifest(house: House) -> None:
    blob = house.blobs.put(stream_of(line(n) for n in range(100 * LINES)), 10**9)
    with house.database.write() as session:
        job = expansion.submit(session, house.account_id, SourceKind.MANIFEST, blob=blob)
    answer = subprocess.run(
        (sys.executable, "-m", "tests.worker.resident"),
        env={
            **os.environ,
            "SHIELD_HOME": str(house.config.home),
            "SHIELD_DATABASE_URL": house.config.database,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert house.job(job).total == 100 * LINES
    sizes = [int(size) for size in answer.stdout.split()]
    # The last nine tenths of the manifest are 6 MB, and several times that as items.
    assert max(sizes[10:]) - max(sizes[:10]) < 4 * MIB


def test_nothing_is_done_when_no_job_expands(house: House) -> None:
    with house.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
    assert not expander(house).turn()
