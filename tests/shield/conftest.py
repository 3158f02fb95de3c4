"""A fresh database for each test, of either kind.

What is about one kind alone says so: `pytest.mark.parametrize("dialect", ["sqlite"])`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shield import accounts
from shield.db import Database
from tests.databases import DIALECTS, fresh


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_url(dialect: str, tmp_path: Path) -> Iterator[str]:
    """Of a database without tables."""
    with fresh(dialect, tmp_path, migrated=False) as url:
        yield url


@pytest.fixture
def url(dialect: str, tmp_path: Path) -> Iterator[str]:
    with fresh(dialect, tmp_path) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def account_id(database: Database) -> str:
    with database.write() as session:
        return accounts.create_account(session, "acme").id
