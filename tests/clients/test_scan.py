"""From files and URLs to results, against the real API."""

import resource
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deepfake_shield import MixedSources, NothingToScan, Shield, client, sources
from deepfake_shield.sources import FileSource, LateFile
from shield.settings import MIB
from tests.clients.house import House


def test_a_folder_is_searched_for_images_and_each_gets_its_result(house: House, shield: Shield, photos: Path) -> None:
    with house.worker():
        results = list(shield.scan(photos))
    found = [(result.custom_id, result.verdict or result.error_code) for result in results]
    assert found == [
        (f"{photos}/a.jpg", "clear"),
        (f"{photos}/b.PNG", "fake"),
        (f"{photos}/c.webp", "not_an_image"),
        (f"{photos}/inner/d.jpeg", "clear"),
        (f"{photos}/inner/e.gif", "fake"),
    ]


def test_a_result_is_typed_and_keeps_what_the_server_sent(house: House, shield: Shield, photos: Path) -> None:
    with house.worker():
        fake, broken = shield.scan([photos / "b.PNG", photos / "c.webp"])
    assert (fake.state, fake.score, fake.reasons, fake.terminal) == ("done", 0.9, ("because",), True)
    face = fake.faces[0]
    assert (face.box.left, face.box.top, face.box.width, face.box.height) == (1.0, 2.0, 30.0, 40.0)
    assert (face.score, face.detection_score, face.landmarks) == (0.9, 0.95, ((1.0, 2.0),) * 6)
    assert fake.raw["model"] == {"name": "test", "version": "1", "weights_sha256": "a" * 64}
    assert (broken.state, broken.verdict, broken.score, broken.faces) == ("failed", None, None, ())
    assert broken.error_detail == "the first bytes are those of no image format"


def test_a_file_that_is_named_is_sent_whatever_its_name_and_arrives_whole(
    house: House, shield: Shield, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    Path("empty.jpg").touch()
    job = shield.submit(["notes.txt", "./inner/../a.jpg", "empty.jpg"])
    house.scan_all()
    results = list(shield.results(job.id))
    assert [result.custom_id for result in results] == ["notes.txt", "./inner/../a.jpg", "empty.jpg"]
    assert [house.blob_of(result.id) for result in results] == [b"clear notes", b"clear a", b""]


@pytest.mark.parametrize(
    "name",
    [
        'a "quoted" one.jpg',
        "back\\slash.jpg",
        "per%22cent%0A.jpg",
        "new\nline.jpg",
        "C:\\x.jpg",
        "Grüße 漢字 🙂.jpg",
        "; a=b",
    ],
)
def test_every_file_name_comes_back_as_it_was(house: House, shield: Shield, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"clear")
    job = shield.submit(tmp_path / name)
    assert [item.custom_id for item in shield.items(job.id)] == [str(tmp_path / name)]


def test_urls_are_left_for_the_server_to_fetch(house: House, shield: Shield) -> None:
    urls = ["https://example.com/a.jpg", "http://example.com/b?c=d&e=f#g"]
    job = shield.submit(urls, name="two")
    assert (job.name, job.counts.total) == ("two", 2)
    assert [(item.custom_id, item.state) for item in shield.items(job.id)] == [(url, "pending") for url in urls]


def test_files_and_urls_together_become_two_jobs(house: House, shield: Shield, photos: Path) -> None:
    given: list[str | Path] = ["https://example.com/x.jpg", photos / "a.jpg"]
    with pytest.raises(MixedSources, match="submit_all"):
        shield.submit(given)
    with house.worker():
        assert [result.custom_id for result in shield.scan(given)] == [f"{photos}/a.jpg", "https://example.com/x.jpg"]
    assert [job.counts.total for job in shield.jobs()] == [1, 1]


def test_more_than_fits_one_job_becomes_several(
    house: House, shield: Shield, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "JOB_ITEMS", 2)
    assert [job.counts.total for job in shield.submit_all(photos)] == [2, 2, 1]
    monkeypatch.setattr(sources, "JOB_ITEMS", 100)
    monkeypatch.setattr(sources, "JOB_BYTES", len("clear a") + len("fake b"))
    assert [job.counts.total for job in shield.submit_all(photos)] == [2, 1, 2]


@pytest.fixture
def _few_open_files(house: House) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_few_open_files")
def test_more_files_than_may_be_open_fit_one_job(house: House, shield: Shield, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}.jpg").write_text(f"clear {number}")
    assert shield.submit(tmp_path).counts.total == 300


def test_a_large_file_is_told_piece_by_piece(house: House, shield: Shield, tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(b"clear" * (MIB // 5))
    told: list[tuple[int, int]] = []
    job = shield.submit(tmp_path / "large.jpg", on_upload=lambda sent, size: told.append((sent, size)))
    assert len(house.blob_of(next(shield.items(job.id)).id)) == MIB // 5 * 5
    assert told == sorted(told)
    assert len(told) > 10
    assert told[-1][0] == told[-1][1] > MIB // 5 * 5


def test_a_large_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(20 * MIB))
    with Shield("http://127.0.0.1", "key") as shield:
        tracemalloc.start()
        try:
            request = shield._submission(sources.find(tmp_path), "", {}, lambda _sent, _size: None)
            assert isinstance(request.stream, httpx.SyncByteStream)
            sent = sum(len(chunk) for chunk in request.stream)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert sent == int(request.headers["Content-Length"]) > 20 * MIB
    assert peak < 4 * MIB


@pytest.mark.parametrize("size", [3, 20])
def test_a_file_that_changes_while_it_is_sent_is_told(tmp_path: Path, size: int) -> None:
    path = tmp_path / "moving.jpg"
    path.write_bytes(b"ten bytes.")
    file = LateFile(FileSource(str(path), size))
    with pytest.raises(NothingToScan, match="changed while it was sent"):
        list(iter(lambda: file.read(4), b""))


def test_a_file_that_vanishes_while_it_is_sent_makes_no_job(
    house: House, shield: Shield, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sources.find(photos)
    (photos / "inner/e.gif").unlink()
    monkeypatch.setattr(client, "find", lambda _: found)
    with pytest.raises(NothingToScan, match=r"e\.gif: No such file"):
        shield.submit(photos)
    assert list(shield.jobs()) == []


@pytest.mark.parametrize("missing", ["nothing.jpg", "empty", "/dev/null"])
def test_what_is_not_there_is_told_before_anything_is_sent(
    house: House, shield: Shield, tmp_path: Path, missing: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToScan) as caught:
        shield.scan(tmp_path / missing)
    assert caught.value.code == "nothing_to_scan"
    assert list(shield.jobs()) == []
