"""Jobs whose source cannot be read now: they wait by themselves, longer each time, and no other job waits with them."""

from typing import BinaryIO

import pytest

from shield import expansion
from shield.errors import StorageUnavailable
from shield.models import Source
from shield.states import SourceKind
from tests.worker.conftest import House
from tests.worker.test_expand import LINES, begin, expand, expander, line
from worker import expand as expand_module
from worker.expand import LISTED, STORED, Expander


def test_a_store_that_is_away_is_waited_for_and_fails_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expand_module, "GIVE_UP_SECONDS", 0.0)  # that is for the servers of others
    job = begin(house, line(0))
    away = iter([True, True])
    real = type(house.blobs).open

    def opened(blobs: object, sha256: str) -> BinaryIO:
        if next(away, False):
            raise StorageUnavailable("the S3 server answered 503")
        return real(house.blobs, sha256)

    monkeypatch.setattr(type(house.blobs), "open", opened)
    taken = expander(house, relay_seconds=0.0)
    for _ in range(2):
        assert taken.turn()
        assert house.job(job).state == "expanding"
    assert taken.turn()
    assert (house.job(job).total, house.job(job).reason) == (1, None)


def test_a_job_whose_source_cannot_be_read_now_waits_by_itself(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, fine = begin(house, line(0)), begin(house, b"".join(line(n) for n in range(2 * LINES)))
    with house.database.read() as session:
        path = house.blobs.path(session.get_one(Source, broken.id).blob or "")
    real = type(house.blobs).open

    def opened(blobs: object, sha256: str) -> BinaryIO:
        if sha256 == path.name:
            raise OSError(5, "Input/output error")
        return real(house.blobs, sha256)

    with monkeypatch.context() as failing:
        failing.setattr(type(house.blobs), "open", opened)
        taken = expander(house, relay_seconds=3600.0)
        while taken.turn():  # ends, for the broken one is tried once
            pass
        assert (house.job(fine).state, house.job(broken).state) == ("queued", "expanding")
    expand(house)
    assert house.job(broken).total == 1


def test_a_job_waits_twice_as_long_each_time_up_to_a_minute(house: House) -> None:
    begin(house, line(0))
    taken = expander(house, relay_seconds=1.0)
    expanding = taken._next()
    assert expanding is not None
    waits = []
    for _ in range(9):
        taken._put_off(expanding, OSError(5, "Input/output error"))
        waits.append(taken._troubles[expanding.job_id].wait)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_an_expander_takes_the_kinds_of_sources_that_it_is_for(house: House) -> None:
    job = begin(house, line(0))
    assert not Expander(house.database, house.blobs, house.config, LISTED).turn()
    assert Expander(house.database, house.blobs, house.config, STORED).turn()
    assert house.job(job).state == "queued"
    assert {*LISTED, *STORED} == set(SourceKind)


def test_a_database_that_is_away_puts_no_job_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job = begin(house, line(0))
    taken = expander(house, relay_seconds=3600.0)

    def away(*_: object) -> bool:
        raise StorageUnavailable("the database went away")

    with monkeypatch.context() as failing:
        failing.setattr(expansion, "advance", away)
        with pytest.raises(StorageUnavailable):
            taken.turn()
    assert taken.turn()
    assert house.job(job).total == 1
