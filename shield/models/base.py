"""What every table stands on: the base class, which names constraints, and the kinds of columns and checks."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Index, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase

from shield.db import UtcDateTime

ID = String(48)
HASH = String(64)


def one_of(column: str, states: type[StrEnum]) -> str:
    """A check that a column holds one of these states."""
    return f"{column} in ({', '.join(repr(state.value) for state in states)})"


def exactly_one(*columns: str) -> str:
    """A check that one of these columns is set."""
    return " + ".join(f"(case when {column} is null then 0 else 1 end)" for column in columns) + " = 1"


def partial(name: str, where: str, *columns: str, unique: bool = False) -> Index:
    """An index of only those rows that it serves."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


class Base(DeclarativeBase):
    """Names every constraint, so that a migration can name it too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime()}  # noqa: RUF012 - SQLAlchemy reads it from the class
