"""Rows: many of a table written at once, in the way that costs least.

SQLite is in this process, and takes row after row. To PostgreSQL all of them go as one JSON text: there a statement for
each row costs both sides more than the row does.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Executable,
    String,
    Table,
    TableValuedAlias,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal_column,
    update,
)
from sqlalchemy.orm import Session

Row = dict[str, object]


def add(session: Session, table: Table, rows: Sequence[Row]) -> None:
    """Insert these rows, which all name the same columns; the table's defaults fill the others."""
    if not rows:
        return
    if session.get_bind().dialect.name == "sqlite":
        session.execute(insert(table), rows)
    else:
        session.execute(_adding(table, tuple(rows[0])), {"rows": _text(rows)})


def change(session: Session, table: Table, rows: Sequence[Row], guard: ColumnElement[bool]) -> None:
    """Set the columns that these rows name, the same ones each, in the row of each `id`; where the guard lets it."""
    if not rows:
        return
    names = tuple(rows[0])
    if session.get_bind().dialect.name == "sqlite":
        session.execute(_changing_one(table, names, guard), [{"this_row": row.pop("id"), **row} for row in rows])
    else:
        session.execute(_changing_all(table, names, guard), {"rows": _text(rows)})


def _text(rows: Sequence[Row]) -> str:
    return json.dumps(rows, default=datetime.isoformat, separators=(",", ":"))


def _unfolded(table: Table, names: tuple[str, ...]) -> TableValuedAlias:
    """The rows of a JSON text, typed as the table's."""
    text = cast(bindparam("rows", type_=String), JSON)
    rows = func.json_populate_recordset(literal_column(f"NULL::{table.name}"), text)
    return rows.table_valued(*(column(name, table.c[name].type) for name in names), name="given")


@cache
def _adding(table: Table, names: tuple[str, ...]) -> Executable:
    given = _unfolded(table, names)
    return insert(table).from_select(names, given.select())


@cache
def _changing_all(table: Table, names: tuple[str, ...], guard: ColumnElement[bool]) -> Executable:
    given = _unfolded(table, names)
    values: dict[str, Any] = {name: given.c[name] for name in names if name != "id"}
    return update(table).where(table.c.id == given.c.id, guard).values(values)


@cache
def _changing_one(table: Table, names: tuple[str, ...], guard: ColumnElement[bool]) -> Executable:
    values: dict[str, Any] = {name: bindparam(name) for name in names if name != "id"}
    return update(table).where(table.c.id == bindparam("this_row"), guard).values(values)
