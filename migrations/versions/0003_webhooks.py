"""Webhooks: endpoints, events, deliveries, attempts, notices."""

import sqlalchemy as sa
from alembic import op

import shield.db

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = shield.db.UtcDateTime(timezone=True)
ID = sa.String(48)
REASONS = "'by_account', 'gone', 'failing'"
STATES = "'pending', 'sending', 'waiting', 'delivered', 'exhausted', 'dropped'"


def upgrade() -> None:
    """Bring the tables forward."""
    # Two steps: SQLite copies the rows at the end of each, and then the default must still be there.
    with op.batch_alter_table("account") as table:
        table.add_column(sa.Column("events", sa.BigInteger(), nullable=False, server_default="0"))
    with op.batch_alter_table("account") as table:
        table.alter_column("events", server_default=None)
    _create_endpoint()
    op.create_table(
        "event",
        *_owned(),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        *_keys("event", "id", "account_id"),
        sa.UniqueConstraint("account_id", "sequence", name=op.f("uq_event_account_id_sequence")),
    )
    op.create_index("ix_event_account_id_id", "event", ["account_id", "id"])
    op.create_index(op.f("ix_event_created_at"), "event", ["created_at"])
    _create_delivery()
    op.create_table(
        "attempt",
        sa.Column("delivery_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=False),
        sa.Column("latency_ms", sa.Integer()),
        sa.Column("status", sa.Integer()),
        sa.Column("error", sa.String(1000)),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.CheckConstraint("(status is null) <> (error is null)", name=op.f("ck_attempt_outcome")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_attempt_account_id")),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name=op.f("fk_attempt_delivery_id")),
        sa.PrimaryKeyConstraint("delivery_id", "number", name=op.f("pk_attempt")),
    )
    op.create_table(
        "notice",
        *_owned(),
        sa.Column("endpoint_id", ID, nullable=False),
        sa.Column("code", sa.String(16), nullable=False),
        sa.Column("detail", sa.String(1000), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint(
            "code in ('created', 'changed', 'rotated', 'enabled', 'disabled', 'deleted')", name=op.f("ck_notice_code")
        ),
        *_keys("notice", "id", "account_id", "endpoint_id"),
    )
    op.create_index("ix_notice_account_id_endpoint_id_id", "notice", ["account_id", "endpoint_id", "id"])


def _create_endpoint() -> None:
    op.create_table(
        "endpoint",
        *_owned(),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("description", sa.String(200), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("old_secret", sa.LargeBinary()),
        sa.Column("old_secret_until", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("failing_since", MOMENT),
        sa.Column("disabled_at", MOMENT),
        sa.Column("disabled_reason", sa.String(16)),
        sa.Column("deleted_at", MOMENT),
        sa.CheckConstraint(
            f"disabled_reason is null or disabled_reason in ({REASONS})", name=op.f("ck_endpoint_reason")
        ),
        sa.CheckConstraint("(disabled_at is null) = (disabled_reason is null)", name=op.f("ck_endpoint_disabled")),
        sa.CheckConstraint("(old_secret is null) = (old_secret_until is null)", name=op.f("ck_endpoint_old_secret")),
        *_keys("endpoint", "id", "account_id"),
    )
    op.create_index("ix_endpoint_account_id_id", "endpoint", ["account_id", "id"])
    _partial_index("endpoint", "ix_endpoint_deleted_at", ["deleted_at"], "deleted_at is not null")


def _create_delivery() -> None:
    op.create_table(
        "delivery",
        *_owned(),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("endpoint_id", ID, nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", MOMENT),
        sa.Column("lease_token", ID),
        sa.Column("lease_until", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.CheckConstraint(f"state in ({STATES})", name=op.f("ck_delivery_state")),
        sa.CheckConstraint("trigger in ('event', 'replay')", name=op.f("ck_delivery_trigger")),
        sa.CheckConstraint("(state in ('pending', 'waiting')) = (next_at is not null)", name=op.f("ck_delivery_next")),
        sa.CheckConstraint("(state = 'sending') = (lease_token is not null)", name=op.f("ck_delivery_lease")),
        sa.CheckConstraint(
            "(state in ('delivered', 'exhausted', 'dropped')) = (ended_at is not null)", name=op.f("ck_delivery_ended")
        ),
        *_keys("delivery", "id", "account_id", "endpoint_id", "event_id"),
    )
    op.create_index("ix_delivery_account_id_endpoint_id_id", "delivery", ["account_id", "endpoint_id", "id"])
    op.create_index("ix_delivery_event_id_endpoint_id", "delivery", ["event_id", "endpoint_id"])
    _partial_index("delivery", "ix_delivery_due", ["endpoint_id", "next_at"], "next_at is not null")
    _partial_index("delivery", "ix_delivery_lease_until", ["lease_until"], "lease_until is not null")
    _partial_index("delivery", "uq_delivery_once", ["event_id", "endpoint_id"], "trigger = 'event'", unique=True)


def _owned() -> tuple[sa.Column[str], sa.Column[str]]:
    """The first columns of what an account owns."""
    return sa.Column("id", ID, nullable=False), sa.Column("account_id", ID, nullable=False)


def _keys(table: str, primary: str, *foreign: str) -> list[sa.Constraint]:
    """A primary key, and foreign keys by columns that are named after the table they lead to."""
    return [
        *(
            sa.ForeignKeyConstraint([name], [f"{name.removesuffix('_id')}.id"], name=op.f(f"fk_{table}_{name}"))
            for name in foreign
        ),
        sa.PrimaryKeyConstraint(primary, name=op.f(f"pk_{table}")),
    ]


def _partial_index(table: str, name: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    """Take the tables back, and with them every endpoint and what is owed to it."""
    for name in ("notice", "attempt", "delivery", "event", "endpoint"):
        op.drop_table(name)
    with op.batch_alter_table("account") as table:
        table.drop_column("events")
