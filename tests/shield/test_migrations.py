"""Migrations go up, down and up again with rows in the tables, and end where the models are."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, inspect, select

from shield.db import Database, open_engine
from shield.models import Base
from tests.databases import fresh

ROOT = Path(__file__).parents[2]
MOMENT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
OWNED = {"account_id": "acc_1"}
COUNTS = {"canceled": 0, "fake": 0, "suspect": 0, "no_face": 0, "inconclusive": 0}
SCANNED = {"weights_sha256": "a" * 64, "policy_version": "p/1", "image_sha256": "c" * 64, "score": 0.1}
# A row in each table, by the migration that makes it.
FIRST: dict[str, dict[str, Any]] = {
    "account": {"id": "acc_1", "name": "acme", "created_at": MOMENT},
    "weights": {
        "sha256": "a" * 64,
        "name": "test",
        "version": "1",
        "fake_threshold": 0.8,
        "suspect_threshold": 0.5,
        "registered_at": MOMENT,
    },
    "api_key": {"id": "key_1", **OWNED, "secret_sha256": "b" * 64, "created_at": MOMENT},
    "login_link": {"token_sha256": "b" * 64, **OWNED, "expires_at": MOMENT},
    "job": {
        "id": "job_1",
        **OWNED,
        "name": "holiday",
        "state": "ended",
        "lane": "bulk",
        "total": 1,
        "done": 1,
        "failed": 0,
        "clear": 1,
        **COUNTS,
        "created_at": MOMENT,
        "ended_at": MOMENT,
    },
    "chunk": {
        "id": "chk_1",
        **OWNED,
        "job_id": "job_1",
        "state": "ready",
        "lane": "bulk",
        "size": 1,
        "deaths": 0,
        "alone": False,
    },
    "item": {
        "id": "itm_1",
        **OWNED,
        "job_id": "job_1",
        "chunk_id": "chk_1",
        "ordinal": 0,
        "custom_id": "a photo",
        "source_url": "https://example.org/a.jpg",
        "state": "done",
        "verdict": "clear",
        "reasons": ["because"],
        **SCANNED,
        "from_cache": False,
        "ended_at": MOMENT,
    },
    "face": {
        "item_id": "itm_1",
        "ordinal": 0,
        **OWNED,
        "left": 1.0,
        "top": 2.0,
        "width": 3.0,
        "height": 4.0,
        "detection_score": 0.9,
        "score": 0.1,
        "landmarks": [[1.0, 2.0]],
    },
    "outbox": {
        "id": 1,
        **OWNED,
        "task": "worker.scan",
        "lane": "bulk",
        "chunk_id": "chk_1",
        "created_at": MOMENT,
    },
}
SECOND: dict[str, dict[str, Any]] = {
    "source": {"job_id": "job_1", **OWNED, "kind": "zip", "blob": "d" * 64, "position": 1, "cursor": "1"},
    "rejection": {"job_id": "job_1", "position": 1, **OWNED, "code": "not_json", "detail": "a line of it"},
    "upload": {"id": "upl_1", **OWNED, "created_at": MOMENT, "expires_at": MOMENT},
    "idempotency_key": {**OWNED, "key": "k", "fingerprint": "e" * 64, "job_id": "job_1", "created_at": MOMENT},
    "bucket_grant": {**OWNED, "bucket": "photos", "prefix": "2026/"},
}
THIRD: dict[str, dict[str, Any]] = {
    "endpoint": {
        "id": "whk_1",
        **OWNED,
        "url": "https://acme.example/hook",
        "description": "ours",
        "events": ["job.ended"],
        "secret": b"sealed",
        "old_secret": b"sealed before",
        "old_secret_until": MOMENT,
        "created_at": MOMENT,
        "disabled_at": MOMENT,
        "disabled_reason": "gone",
    },
    "event": {
        "id": "evt_1",
        **OWNED,
        "type": "job.ended",
        "sequence": 1,
        "data": {"job_id": "job_1"},
        "created_at": MOMENT,
    },
    "delivery": {
        "id": "dlv_1",
        **OWNED,
        "event_id": "evt_1",
        "endpoint_id": "whk_1",
        "trigger": "event",
        "state": "waiting",
        "attempts": 1,
        "next_at": MOMENT,
        "created_at": MOMENT,
    },
    "attempt": {
        "delivery_id": "dlv_1",
        "number": 1,
        **OWNED,
        "ended_at": MOMENT,
        "latency_ms": 12,
        "status": 410,
        "answer": "gone",
    },
    "notice": {
        "id": "ntc_1",
        **OWNED,
        "endpoint_id": "whk_1",
        "code": "disabled",
        "detail": "it answered 410",
        "created_at": MOMENT,
    },
}
FIFTH: dict[str, dict[str, Any]] = {
    "moderator": {
        "id": "mod_1",
        **OWNED,
        "name": "robin",
        "role": "lead",
        "password_hash": "$argon2id$",
        "created_at": MOMENT,
    },
    "audit_entry": {
        "number": 1,
        "at": MOMENT,
        **OWNED,
        "actor": "operator",
        "action": "person.added",
        "target": "mod_1",
        "detail": "{}",
        "hash": "1" * 64,
    },
}
SEVENTH: dict[str, dict[str, Any]] = {
    "browser_session": {
        "id": "ses_1",
        **OWNED,
        "moderator_id": "mod_1",
        "token_sha256": "2" * 64,
        "opened_at": MOMENT,
        "expires_at": MOMENT,
    },
}
EIGHTH: dict[str, dict[str, Any]] = {
    "policy_version": {
        "id": "pol_1",
        **OWNED,
        "number": 1,
        "version": "account/1",
        "terms": {"review_share": 0.1},
        "note": "first",
        "made_by": "mod_1",
        "made_at": MOMENT,
        "published_by": "mod_1",
        "published_at": MOMENT,
    },
}
NINTH: dict[str, dict[str, Any]] = {
    "review_case": {
        "id": "cas_1",
        **OWNED,
        "item_id": "itm_1",
        "job_id": "job_1",
        "state": "decided",
        "level": "moderator",
        "reason": "sample",
        "verdict": "clear",
        "score": 0.1,
        "priority": 4000,
        "image_hash": "0123456789abcdef",
        "opened_at": MOMENT,
        "decided_at": MOMENT,
        "decided_by": "mod_1",
        "answer": "overturn",
    },
    "decision": {
        "id": "dec_1",
        **OWNED,
        "case_id": "cas_1",
        "answer": "overturn",
        "reason": "authentic",
        "note": "seen before",
        "actor": "mod_1",
        "decided_at": MOMENT,
    },
    "case_piece": {"case_id": "cas_1", "piece": 3, **OWNED},
}
TENTH: dict[str, dict[str, Any]] = {
    "explanation": {
        "item_id": "itm_1",
        **OWNED,
        "state": "ready",
        "asked_at": MOMENT,
        "tries": 1,
        "ended_at": MOMENT,
        "picture": "view",
        "weights_sha256": "a" * 64,
    },
    "explained_face": {
        "item_id": "itm_1",
        "ordinal": 0,
        **OWNED,
        "left": -1.5,
        "top": 2.0,
        "side": 40.0,
        "score": 0.9,
        "stability": [["jpeg_90", 0.8]],
        "crop_blob": "e" * 64,
        "heatmap_blob": "f" * 64,
    },
}
# What later migrations write into rows of the first, by column.
ADDED: dict[str, dict[str, Any]] = {
    "api_key": {"name": "", "hint": "", "scopes": ["jobs:read", "jobs:write", "review", "admin"]},
    "job": {"rejected": 0},
    "chunk": {"turn": 0, "ahead": True, "begun": True},
    "outbox": {"turn": 0},
    "account": {"events": 0},
    "moderator": {"blur": True, "greyscale": True},
}
SESSIONS = {"sessions": 3}  # of a moderator, from the fifth migration to the seventh
MADE = {
    "0001": FIRST,
    "0002": SECOND,
    "0003": THIRD,
    "0005": FIFTH | {"moderator": FIFTH["moderator"] | SESSIONS},
    "0007": SEVENTH,
    "0008": EIGHTH,
    "0009": NINTH,
    "0010": TENTH,
}
LATER = SECOND | THIRD | FIFTH | SEVENTH | EIGHTH | NINTH | TENTH


@pytest.fixture
def engine(empty_url: str) -> Iterator[Engine]:
    engine = open_engine(empty_url)
    yield engine
    engine.dispose()


@pytest.fixture
def go(empty_url: str) -> Callable[[Callable[[Config, str], None], str], None]:
    """Up or down to a revision."""
    config = Config(ROOT / "migrations" / "alembic.ini")
    config.set_main_option("sqlalchemy.url", empty_url)
    return lambda way, revision: way(config, revision)


def write(engine: Engine, rows: dict[str, dict[str, Any]]) -> None:
    tables = MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for name, row in rows.items():
            connection.execute(tables.tables[name].insert(), [row])


def read(engine: Engine) -> dict[str, dict[str, Any]]:
    """The one row of each table, without what is null, and its moments in UTC."""
    tables = MetaData()
    tables.reflect(engine)
    found: dict[str, dict[str, Any]] = {}
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        for name, table in tables.tables.items():
            for row in connection.execute(table.select()).mappings():
                assert name not in found
                found[name] = {column: utc(value) for column, value in row.items() if value is not None}
    found.pop("alembic_version", None)
    return found


def utc(value: object) -> object:
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def test_rows_survive_every_migration_up_down_and_up_again(
    engine: Engine, go: Callable[[Callable[[Config, str], None], str], None]
) -> None:
    go(command.upgrade, "0001")
    write(engine, FIRST)
    before = read(engine)
    assert before == FIRST

    for _ in range(2):
        go(command.upgrade, "head")
        after = read(engine)
        assert after == {name: row | ADDED.get(name, {}) for name, row in before.items()}
        now = {name: row | ADDED.get(name, {}) for name, row in LATER.items()}
        write(engine, now)
        assert read(engine) == after | now
        go(command.downgrade, "0001")
        assert read(engine) == before

    go(command.downgrade, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    go(command.upgrade, "head")
    assert set(inspect(engine).get_table_names()) == {"alembic_version", *Base.metadata.tables}


def test_rows_of_every_release_survive_what_came_after_it(
    engine: Engine, go: Callable[[Callable[[Config, str], None], str], None]
) -> None:
    for revision, rows in MADE.items():
        go(command.upgrade, revision)
        write(engine, rows)
    go(command.upgrade, "head")
    found = read(engine)
    assert found == {name: row | ADDED.get(name, {}) for name, row in (FIRST | LATER).items()}
    assert found.keys() == Base.metadata.tables.keys()


def test_people_stay_when_their_sessions_become_rows_and_going_back_opens_no_session_of_before(
    engine: Engine, go: Callable[[Callable[[Config, str], None], str], None]
) -> None:
    person = FIFTH["moderator"]
    go(command.upgrade, "0006")
    write(engine, {"account": FIRST["account"] | {"events": 0}, "moderator": person | SESSIONS})
    for _ in range(2):
        go(command.upgrade, "0007")
        assert read(engine)["moderator"] == person
        go(command.downgrade, "0006")
        assert read(engine)["moderator"]["sessions"] > 3


def test_names_of_before_are_respelt_and_stay_apart(
    engine: Engine, go: Callable[[Callable[[Config, str], None], str], None]
) -> None:
    spelt = {
        "acc_1": "Rene\u0301e",
        "acc_2": " Ren\u00e9e",
        "acc_3": " ",
        "acc_4": "e\u0301" * 100,
        "acc_5": "\u00e9" * 100,
    }
    go(command.upgrade, "0010")
    tables = MetaData()
    tables.reflect(engine)
    account, moderator = tables.tables["account"], tables.tables["moderator"]
    person = {"account_id": "acc_1", "role": "lead", "password_hash": "", "blur": True, "greyscale": True}
    with engine.begin() as connection:
        rows = [{"id": each, "name": name, "created_at": MOMENT, "events": 0} for each, name in spelt.items()]
        connection.execute(account.insert(), rows)
        connection.execute(moderator.insert(), person | {"id": "mod_1", "name": "Zoe\u0308 ", "created_at": MOMENT})
    go(command.upgrade, "0011")
    with engine.begin() as connection:
        names = {row.id: row.name for row in connection.execute(select(account.c.id, account.c.name))}
        assert connection.scalar(select(moderator.c.name)) == "Zo\u00eb"
    assert names == {
        "acc_1": "Ren\u00e9e",
        "acc_2": "Ren\u00e9e 2",
        "acc_3": " ",
        "acc_4": "\u00e9" * 100 + " 2",
        "acc_5": "\u00e9" * 100,
    }


def test_an_autogenerated_migration_would_be_empty(database: Database) -> None:
    with database.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def described(engine: Engine) -> dict[str, Any]:
    """Everything that the database says of its tables; what has no order, sorted."""
    inspector = inspect(engine)
    return {
        table: {
            "columns": {
                column["name"]: {**column, "type": str(column["type"])} for column in inspector.get_columns(table)
            },
            "primary key": inspector.get_pk_constraint(table),
            "foreign keys": named(inspector.get_foreign_keys(table)),
            "unique": named(inspector.get_unique_constraints(table)),
            "checks": named(inspector.get_check_constraints(table)),
            "indexes": named(inspector.get_indexes(table)),
        }
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def named(parts: Any) -> dict[str, Any]:
    return {
        part["name"]: part
        | {"dialect_options": {name: str(text) for name, text in part.get("dialect_options", {}).items()}}
        for part in parts
    }


def test_checks_indexes_and_all_else_are_those_of_the_models(database: Database, dialect: str, tmp_path: Path) -> None:
    """Alembic compares neither CHECK constraints nor the WHERE of a partial index."""
    (tmp_path / "models").mkdir()
    with fresh(dialect, tmp_path / "models", migrated=False) as url:
        made = open_engine(url)
        Base.metadata.create_all(made)
        expected = described(made)
        made.dispose()
    found = described(database.engine)
    assert "'ended'" in found["job"]["checks"]["ck_job_complete"]["sqltext"]
    assert "'ended'" in found["job"]["indexes"]["ix_job_live"]["dialect_options"][f"{dialect}_where"]
    for table, parts in expected.items():
        assert found[table] == parts
    assert found.keys() == expected.keys()
