from datetime import timedelta

import pytest
from sqlalchemy import update

from shield import accounts, uploads
from shield.blobs import UPLOAD_ID
from shield.db import Database, now
from shield.errors import InvalidSubmission
from shield.models import Upload


def made(database: Database, account_id: str, count: int = 1) -> list[str]:
    with database.write() as session:
        return [row.id for row in uploads.create(session, account_id, count, hours=2)]


def age(database: Database, upload_id: str, expired_for: timedelta) -> None:
    with database.write() as session:
        moment = now(session) - expired_for
        session.execute(update(Upload).where(Upload.id == upload_id).values(expires_at=moment))


def test_uploads_are_made_with_ids_that_a_store_takes_and_a_time_to_expire(database: Database, account_id: str) -> None:
    with database.write() as session:
        rows = uploads.create(session, account_id, 3, hours=2)
    assert len({row.id for row in rows}) == 3
    for row in rows:
        assert UPLOAD_ID.fullmatch(row.id)
        assert row.expires_at - row.created_at == timedelta(hours=2)


def test_the_accounts_own_uploads_pass_the_check_among_items_of_other_sources(
    database: Database, account_id: str
) -> None:
    first, second = made(database, account_id, 2)
    with database.read() as session:
        uploads.check(session, account_id, [None, first, None, second, first])


def test_more_ids_than_one_query_takes_are_all_looked_up(database: Database, account_id: str) -> None:
    ids = made(database, account_id, uploads.IDS + 1)
    with database.read() as session:
        assert uploads.known(session, account_id, ids) == set(ids)
        with pytest.raises(InvalidSubmission) as caught:
            uploads.check(session, account_id, [*ids, "upl_unknown"])
    assert caught.value.pointer == f"/items/{uploads.IDS + 1}/upload"


def test_an_upload_of_another_account_reads_like_an_unknown_one(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
    theirs, unknown = made(database, other)[0], f"upl_{'0' * 27}"
    said = []
    for upload_id in (theirs, unknown):
        with database.read() as session, pytest.raises(InvalidSubmission) as caught:
            uploads.check(session, account_id, [None, upload_id])
        assert caught.value.pointer == "/items/1/upload"
        said.append(str(caught.value).replace(upload_id, "ID"))
    assert said[0] == said[1]


def test_an_upload_can_be_named_for_a_while_after_its_url_expired(database: Database, account_id: str) -> None:
    upload_id = made(database, account_id)[0]
    age(database, upload_id, uploads.NAMED - timedelta(minutes=1))
    with database.read() as session:
        uploads.check(session, account_id, [upload_id])
    age(database, upload_id, uploads.NAMED)
    with database.read() as session, pytest.raises(InvalidSubmission, match="expired"):
        uploads.check(session, account_id, [upload_id])
