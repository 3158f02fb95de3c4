"""A fresh database for each test: real SQLite, brought up by the migrations."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from shield import accounts
from shield.db import Database

ROOT = Path(__file__).parents[2]


def alembic_config(url: str) -> Config:
    config = Config(ROOT / "migrations" / "alembic.ini")
    config.set_main_option("sqlalchemy.url", url)
    return config


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'shield.db'}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    command.upgrade(alembic_config(url), "head")
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def account_id(database: Database) -> str:
    with database.write() as session:
        return accounts.create_account(session, "acme").id
