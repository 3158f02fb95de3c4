"""A fresh database for each test, SQLite or PostgreSQL: a copy of one that the migrations brought up once."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from shield.supervisor import migrate
from tests.postgres import server

DIALECTS = ("sqlite", "postgresql")


@contextmanager
def fresh(dialect: str, folder: Path, *, migrated: bool = True) -> Iterator[str]:
    """The URL of a database with all tables, or without any; SQLite's is FOLDER/shield.db."""
    if dialect == "postgresql":
        with server().database(migrated=migrated) as url:
            yield url
    elif migrated:
        yield fresh_sqlite(folder)
    else:
        yield f"sqlite:///{folder / 'shield.db'}"


def fresh_sqlite(folder: Path) -> str:
    """The URL of FOLDER/shield.db, with all tables."""
    path = folder / "shield.db"
    shutil.copy(_migrated(), path)
    return f"sqlite:///{path}"


@cache
def _migrated() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    migrate(f"sqlite:///{folder / 'shield.db'}")
    return folder / "shield.db"
