"""Strays: bytes of requests that were refused and of steps that were never written go, and no byte that a row names."""

import io
import os
import time
from collections.abc import Iterator

import pytest
from werkzeug.test import TestResponse

from api.app import create_app
from shield import accounts, expansion, jobs, uploads
from shield.blobs import SLICES
from shield.errors import StorageUnavailable
from shield.queue import MemoryQueue
from shield.states import SourceKind
from tests import zips
from tests.worker.conftest import House
from tests.worker.stub import StubScanner
from tests.worker.test_expand import begin, expander, line
from worker import purge as purging
from worker.purge import Strays

BOUNDARY = "b"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="cut.jpg"\r\n\r\n'


def files(house: House) -> set[str]:
    return {path.name for path in house.config.blob_folder.rglob("*") if path.is_file()}


def let_a_day_pass(house: House) -> None:
    for path in house.config.blob_folder.rglob("*"):
        os.utime(path, (time.time() - 25 * 3600,) * 2)


def look_everywhere(house: House) -> int:
    strays = Strays(house.database, house.blobs)
    return sum(strays.turn() for _ in range(SLICES))


class Api:
    """The API of a house."""

    def __init__(self, house: House) -> None:
        with house.database.write() as session:
            self._key = accounts.create_key(session, house.account_id)
        self._app = create_app(house.config.model_copy(update={"max_items": 3}), MemoryQueue())
        self._client = self._app.test_client()

    def post(self, key: str = "", **body: object) -> TestResponse:
        headers = {"Authorization": f"Bearer {self._key}"} | ({"Idempotency-Key": key} if key else {})
        return self._client.post("/v1/jobs", headers=headers, **body)

    def upload(self, *contents: bytes, key: str = "", **fields: object) -> TestResponse:
        named = [(io.BytesIO(content), f"{number}.jpg") for number, content in enumerate(contents)]
        return self.post(key, data={"files": named, **fields})

    def close(self) -> None:
        self._app.extensions["shield"].database.close()


@pytest.fixture
def api(house: House) -> Iterator[Api]:
    api = Api(house)
    yield api
    api.close()


def refused(api: Api, limit: int) -> list[TestResponse]:
    """Answers to requests that are refused after bytes of theirs were stored."""
    assert api.upload(b"first", key="k").status_code == 202
    return [
        api.upload(b"counted 1", b"counted 2", custom_id="one"),
        api.upload(b"small enough", bytes(limit + 1)),
        api.upload(*(b"one of four %d" % number for number in range(4))),
        api.upload(b"other", key="k"),
        api.upload(b"with a field", unknown="x"),
        api.post(data=f"{HEAD}cut off".encode(), content_type=f"multipart/form-data; boundary={BOUNDARY}"),
        api.post(data=f"{HEAD}whole\r\n{HEAD}cut".encode(), content_type=f"multipart/form-data; boundary={BOUNDARY}"),
        api.post(data=zips.HOSTILE["traversal"][0], content_type="application/zip"),
        api.post(data=b"PK\5\6 is no zip", content_type="application/zip"),
        api.post("k", data=line(0), content_type="application/jsonl"),
    ]


def test_nothing_of_refused_requests_is_left_a_day_later(house: House, api: Api) -> None:
    answers = refused(api, house.config.max_image_bytes)
    assert {answer.status_code for answer in answers} <= {400, 413, 422}
    stored = files(house)
    assert len(stored) > len(answers) / 2
    assert look_everywhere(house) == 0
    assert files(house) == stored
    let_a_day_pass(house)
    assert look_everywhere(house) == len(stored) - 1
    with house.database.read() as session:
        (job,) = jobs.newest(session, house.account_id, 10)
    assert files(house) == {item.source_blob for item in house.items(job)}


def test_what_any_row_names_stays(house: House) -> None:
    job = house.submit(b"face 1", b"none 2")
    scanning = house.scanning(StubScanner())
    while scanning.scan_ready():
        pass
    assert any(item.view_blob for item in house.items(job))
    begin(house, line(0))
    begin(house, zips.zip_of(("a.jpg", b"a")), SourceKind.ZIP)
    with house.database.write() as session:
        (upload,) = uploads.create(session, house.account_id, 1, hours=1.0)
    house.blobs.put_upload(upload.id, io.BytesIO(b"x"), 10)
    let_a_day_pass(house)
    stored = files(house)
    assert look_everywhere(house) == 0
    assert files(house) == stored
    assert upload.id in stored


def test_a_stray_that_is_put_again_meanwhile_stays(house: House) -> None:
    again, stray = (house.blobs.put(io.BytesIO(content), 10) for content in (b"again", b"stray"))
    let_a_day_pass(house)
    house.blobs.put(io.BytesIO(b"again"), 10)
    assert look_everywhere(house) == 1
    assert files(house) == {again}
    assert stray not in files(house)


def test_members_of_a_step_that_a_cancel_overtook_are_removed(house: House) -> None:
    job = begin(house, zips.zip_of(("a.jpg", b"a"), ("b.jpg", b"b")), SourceKind.ZIP)
    taken = expander(house)
    here = taken._next()
    assert here is not None
    step = taken._read(here)
    jobs.cancel(house.database, house.account_id, job.id)
    with house.database.write() as session:
        assert not expansion.advance(session, here, step, 4)
    let_a_day_pass(house)
    assert look_everywhere(house) == 2
    assert files(house) == {here.blob}


def test_bytes_of_an_upload_without_a_row_and_partial_files_are_removed(house: House) -> None:
    house.blobs.put_upload(f"upl_{'0' * 27}", io.BytesIO(b"x"), 10)
    (house.config.blob_folder / "partial-killed").touch()
    let_a_day_pass(house)
    look_everywhere(house)
    assert files(house) == set()


def test_what_a_turn_has_no_time_for_is_left_to_the_next(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "TURN_SECONDS", -1.0)
    monkeypatch.setattr(purging, "PAGE", 1)
    names = [f"00{number:062x}" for number in range(3)]
    for name in names:
        path = house.blobs.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    let_a_day_pass(house)
    strays = Strays(house.database, house.blobs)
    strays._slice = 0
    assert [strays.turn() for _ in names] == [1, 1, 1]
    assert files(house) == set()
    for _ in range(SLICES):
        strays.turn()
    assert strays._slice == 1  # one slice a turn, and round


def test_a_store_that_fails_in_the_middle_does_not_end_the_search(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.blobs.put(io.BytesIO(b"stray"), 10)
    let_a_day_pass(house)
    strays = Strays(house.database, house.blobs)

    def away(*_: object) -> bool:
        raise StorageUnavailable("the store is away")

    failures = 0
    with monkeypatch.context() as broken:
        broken.setattr(type(house.blobs), "remove_old", away)
        for _ in range(SLICES):
            try:
                strays.turn()
            except StorageUnavailable:
                failures += 1
    assert failures == 1
    assert sum(strays.turn() for _ in range(SLICES)) == 1
    assert files(house) == set()
