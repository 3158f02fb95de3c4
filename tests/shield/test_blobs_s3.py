"""What blobs in S3 have for themselves: keys, presigned URLs that a strict server honours, a server that is away."""

import io
import logging
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shield import s3
from shield.blobs import Blobs, open_blobs
from shield.errors import SettingsError, StorageUnavailable, UploadMissing
from shield.settings import Settings
from tests.s3 import KEY, SECRET, S3Server, moto, nanio

UPLOAD = f"upl_{'0' * 27}"


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[S3Server]:
    with nanio(tmp_path / "nanio") as server:
        yield server


@pytest.fixture
def blobs(strict: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    return open_blobs(strict.settings(monkeypatch, tmp_path, blobs=f"s3://{strict.new_bucket()}/shield"))


def url_of(blobs: Blobs, seconds: int = 60) -> str:
    url = blobs.upload_url(UPLOAD, seconds)
    assert url is not None
    return url


@pytest.mark.parametrize("prefix", ["", "/", "/shield", "/shield/", "/a/b"])
def test_objects_lie_under_the_prefix(prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = moto().new_bucket()
    blobs = open_blobs(moto().settings(monkeypatch, tmp_path, blobs=f"s3://{bucket}{prefix}"))
    name = blobs.put(io.BytesIO(b"x"), 10)
    blobs.put_upload(UPLOAD, io.BytesIO(b"y"), 10)
    under = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    keys = {found["Key"] for found in moto().client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert keys == {f"{under}{name[:2]}/{name[2:4]}/{name}", f"{under}uploads/00/{UPLOAD}"}


@pytest.mark.parametrize("blobs", ["s3://", "s3://UPPER/x", "s3://a", "s3://a..b/x", "s3://127.0.0.1/x", "s3://a_b/x"])
def test_an_address_without_a_valid_bucket_is_refused(blobs: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SHIELD_BLOBS"):
        open_blobs(Settings(home=tmp_path, blobs=blobs, _env_file=None))


def test_bytes_are_put_to_a_presigned_url_without_credentials(blobs: Blobs) -> None:
    assert httpx.put(url_of(blobs), content=b"first").status_code == 200
    assert httpx.put(url_of(blobs), content=b"again").status_code == 200
    assert blobs.get_upload(UPLOAD, 10) == b"again"


def test_a_presigned_url_that_was_tampered_with_is_refused(blobs: Blobs) -> None:
    url = url_of(blobs)
    signature = url.rpartition("X-Amz-Signature=")[2]
    other = f"upl_{'1' * 27}"
    for forged in (
        url.replace(signature, "0" * 64),
        url.replace(UPLOAD, other),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=600000"),
        url.partition("?")[0],
    ):
        assert forged != url
        assert httpx.put(forged, content=b"x").status_code == 403
    assert httpx.get(url).status_code == 403  # signed for PUT alone
    for upload_id in (UPLOAD, other):
        with pytest.raises(UploadMissing):
            blobs.get_upload(upload_id, 10)


def test_a_server_that_checks_signatures_takes_blobs(blobs: Blobs) -> None:
    content = bytes(range(256)) * (s3.IN_MEMORY // 256 + 1)
    name = blobs.put(io.BytesIO(content), len(content))
    assert blobs.get(name) == content
    with blobs.open(name) as stream:
        stream.seek(-256, io.SEEK_END)
        assert stream.read() == content[-256:]


def test_a_zip_is_read_from_s3_member_by_member(blobs: Blobs) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for number in range(100):
            writer.writestr(f"{number}.txt", bytes([number]) * 50_000)
    with blobs.open(blobs.put(io.BytesIO(archive.getvalue()), 10**8)) as stream, zipfile.ZipFile(stream) as reader:
        assert [reader.read(f"{number}.txt")[:1] for number in reversed(range(100))] == [
            bytes([number]) for number in reversed(range(100))
        ]


def test_wrong_credentials_are_unavailable_storage(
    strict: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = strict.settings(monkeypatch, tmp_path, blobs=f"s3://{strict.new_bucket()}/shield", s3_region="eu-west-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
    blobs = open_blobs(settings)
    for attempt in (blobs.probe, lambda: blobs.get("0" * 64), lambda: blobs.put(io.BytesIO(b"x"), 10)):
        with pytest.raises(StorageUnavailable, match="SHIELD_BLOBS"):
            attempt()


def test_a_bucket_that_is_not_there_is_unavailable_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = open_blobs(moto().settings(monkeypatch, tmp_path, blobs="s3://nobody-made-this-bucket/shield"))
    for attempt in (blobs.probe, lambda: blobs.put(io.BytesIO(b"x"), 10)):
        with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
            attempt()


def test_a_server_that_is_away_is_unavailable_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = S3Server("http://{}:{}".format(*listener.getsockname()))
    blobs = open_blobs(nobody.settings(monkeypatch, tmp_path, blobs="s3://bucket/shield"))
    for attempt in (
        blobs.probe,
        lambda: blobs.get("0" * 64),
        lambda: blobs.open("0" * 64),
        lambda: blobs.put(io.BytesIO(b"x"), 10),
        lambda: blobs.get_upload(UPLOAD, 10),
        lambda: blobs.remove_upload(UPLOAD),
    ):
        with pytest.raises(StorageUnavailable):
            attempt()


def test_neither_credentials_nor_signed_urls_are_logged(blobs: Blobs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    signature = url_of(blobs).rpartition("X-Amz-Signature=")[2]
    blobs.get(blobs.put(io.BytesIO(b"x"), 10))
    logging.getLogger("shield").debug("the log is listened to")
    assert "the log is listened to" in caplog.text
    for secret in (KEY, SECRET, signature, "Signature"):
        assert secret not in caplog.text


def test_what_others_keep_beside_the_blobs_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = moto().new_bucket()
    blobs = open_blobs(moto().settings(monkeypatch, tmp_path, blobs=f"s3://{bucket}"))
    name = blobs.put(io.BytesIO(b"x"), 10)
    two = name[:2]
    for key in (f"{two}/photo.jpg", f"{two}/{name}", f"{two}/00/{'0' * 64}", f"{two}/{name[2:4]}/more/{name}"):
        moto().client.put_object(Bucket=bucket, Key=key, Body=b"somebody else's")
    assert list(blobs.names(int(two, 16))) == [name]
