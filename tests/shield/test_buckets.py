import itertools
from pathlib import Path

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from shield import __main__ as operator
from shield import accounts, buckets
from shield.buckets import Place
from shield.db import Database
from shield.errors import BucketForbidden, InvalidSubmission, S3Forbidden, S3Missing
from shield.settings import Settings
from tests.s3 import moto, nanio


@pytest.mark.parametrize(
    ("url", "bucket", "key"),
    [
        ("s3://photos/a.jpg", "photos", "a.jpg"),
        ("S3://my.photos-2/in/a b%20c?d#e.jpg", "my.photos-2", "in/a b%20c?d#e.jpg"),
        ("s3://abc//double//slash.jpg", "abc", "/double//slash.jpg"),
        ("s3://abc/...", "abc", "..."),
        ("s3://abc/ünïcode/写真.jpg", "abc", "ünïcode/写真.jpg"),
        (f"s3://{'a' * 63}/{'k' * 1024}", "a" * 63, "k" * 1024),
    ],
)
def test_an_s3_url_is_a_bucket_and_a_key_as_it_stands(url: str, bucket: str, key: str) -> None:
    assert buckets.parse_s3_url(url) == (bucket, key)


@pytest.mark.parametrize(
    "url",
    [
        "https://photos/a.jpg",
        "s3:/photos/a.jpg",
        "s3://",
        "s3:///a.jpg",
        "s3://photos",
        "s3://photos/",
        "s3://ab/a.jpg",
        f"s3://{'a' * 64}/a.jpg",
        "s3://Photos/a.jpg",
        "s3://my_photos/a.jpg",
        "s3://-photos/a.jpg",
        "s3://pho..tos/a.jpg",
        "s3://user@photos/a.jpg",
        "s3://photos:443/a.jpg",
        "s3://169.254.169.254/latest/meta-data",
        "s3://arn:aws:s3:eu-west-1:1:accesspoint/x/a.jpg",
        f"s3://photos/{'k' * 1025}",
        f"s3://photos/{'ü' * 513}",
        "s3://photos/a\nb.jpg",
        "s3://photos/a\x00b.jpg",
        "s3://photos/../other/a.jpg",
        "s3://photos/acme/./a.jpg",
        "s3://photos/acme/..",
        "s3://photos/\ud800.jpg",
    ],
)
def test_what_is_no_s3_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidSubmission):
        buckets.parse_s3_url(url)


def test_a_prefix_may_be_empty_where_a_key_may_not() -> None:
    assert buckets.parse_s3_prefix("s3://photos") == buckets.parse_s3_prefix("s3://photos/") == Place("photos", "")
    assert Place("photos", "in/").url == "s3://photos/in/"


def grant(database: Database, account_id: str, *urls: str) -> None:
    with database.write() as session:
        for url in urls:
            buckets.grant(session, account_id, buckets.parse_s3_prefix(url))


def test_an_account_may_read_what_was_granted_and_nothing_else(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
    grant(database, account_id, "s3://photos/acme/", "s3://photos/acme/", "s3://public")
    with database.read() as session:
        assert buckets.grants(session, account_id) == [Place("photos", "acme/"), Place("public", "")]
        for place in (Place("photos", "acme/a.jpg"), Place("photos", "acme/"), Place("public", "any/thing.jpg")):
            assert buckets.allowed(session, account_id, *place)
            assert not buckets.allowed(session, other, *place)
        for place in (
            Place("photos", "acme"),
            Place("photos", "a.jpg"),
            Place("photos", ""),
            Place("photos2", "acme/"),
        ):
            assert not buckets.allowed(session, account_id, *place)


def test_a_grant_that_is_taken_back_is_gone(database: Database, account_id: str) -> None:
    grant(database, account_id, "s3://photos/acme/", "s3://photos/acme/in/")
    with database.write() as session:
        assert not buckets.revoke(session, account_id, Place("photos", "acme"))
        assert buckets.revoke(session, account_id, Place("photos", "acme/"))
        assert not buckets.revoke(session, account_id, Place("photos", "acme/"))
    with database.read() as session:
        assert not buckets.allowed(session, account_id, "photos", "acme/a.jpg")
        assert buckets.allowed(session, account_id, "photos", "acme/in/a.jpg")


def test_the_first_url_that_may_not_be_read_is_pointed_at(database: Database, account_id: str) -> None:
    grant(database, account_id, "s3://photos/acme/")
    good = [None, "https://example.org/s3://x", "s3://photos/acme/a.jpg"]
    with database.read() as session:
        buckets.check(session, account_id, good)
        with pytest.raises(BucketForbidden, match=r"s3://photos/b\.jpg") as forbidden:
            buckets.check(session, account_id, [*good, "s3://photos/b.jpg", "s3://other/c.jpg"])
        with pytest.raises(InvalidSubmission) as invalid:
            buckets.check(session, account_id, [*good, "s3://photos/acme/../b.jpg"])
    assert (forbidden.value.pointer, forbidden.value.code) == ("/items/3/url", "s3_forbidden")
    assert invalid.value.pointer == "/items/3/url"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return moto().settings(monkeypatch, tmp_path)


def test_keys_are_listed_in_order_page_by_page_and_from_any_place(config: Settings) -> None:
    bucket = moto().new_bucket(**{"other.jpg": b"x"})
    kept = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # what moto's server keeps: a thousand requests would take long
    for number in range(1003):  # a page of S3 has a thousand
        kept.put_object(bucket, f"in/{number:04d}.jpg", bytes(number % 3))
    listed = list(buckets.list_keys(config, bucket, "in/", ""))
    assert listed == [(f"in/{number:04d}.jpg", number % 3) for number in range(1003)]
    assert list(buckets.list_keys(config, bucket, "in/", "in/0999.jpg")) == listed[1000:]
    assert list(buckets.list_keys(config, bucket, "in/", "in/1002.jpg")) == []
    assert list(itertools.islice(buckets.list_keys(config, bucket, "", ""), 1)) == listed[:1]


def test_keys_are_listed_as_they_are(config: Settings) -> None:
    keys = sorted(["a b.jpg", "a%20b.jpg", "a+b.jpg", "ü/写真.jpg", "x&y=<z>.jpg"], key=str.encode)
    bucket = moto().new_bucket(**dict.fromkeys(keys, b"x"))
    assert [key for key, _ in buckets.list_keys(config, bucket, "", "")] == keys


def test_listing_a_bucket_that_is_not_there_says_so(config: Settings) -> None:
    with pytest.raises(S3Missing, match="s3://nobody-made-this/in/"):
        next(buckets.list_keys(config, "nobody-made-this", "in/", ""))


def test_listing_with_wrong_credentials_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with nanio(tmp_path / "nanio") as server:
        config = server.settings(monkeypatch, tmp_path)
        bucket = server.new_bucket(**{"a.jpg": b"x"})
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
        with pytest.raises(S3Forbidden):
            next(buckets.list_keys(config, bucket, "", ""))


def test_the_operator_allows_lists_and_denies(
    database: Database,
    account_id: str,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(operator, "settings", lambda: Settings(home=tmp_path, database_url=url, _env_file=None))

    def run(*line: str) -> tuple[int, str, str]:
        code = operator.main(list(line))
        return code, *capsys.readouterr()

    assert run("allow-s3", "acme", "s3://photos/acme/") == (0, "s3://photos/acme/\n", "")
    assert run("allow-s3", account_id, "s3://public") == (0, "s3://photos/acme/\ns3://public/\n", "")
    assert run("allow-s3", "acme") == (0, "s3://photos/acme/\ns3://public/\n", "")
    assert run("deny-s3", "acme", "s3://public") == (0, "", "")
    assert run("allow-s3", "acme") == (0, "s3://photos/acme/\n", "")
    for line in (("deny-s3", "acme", "s3://public"), ("allow-s3", "nobody"), ("allow-s3", "acme", "https://photos")):
        code, out, error = run(*line)
        assert (code, out) == (2, "")
        assert error.startswith("shield: ")
