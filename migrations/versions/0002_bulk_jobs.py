"""Bulk jobs: sources that are expanded, uploads, idempotency keys, bucket grants, turns, indexes for every page."""

import sqlalchemy as sa
from alembic import op

import shield.db

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = shield.db.UtcDateTime(timezone=True)
ONE_SOURCE = (
    "(case when source_blob is null then 0 else 1 end) + (case when source_url is null then 0 else 1 end)"
    " + (case when source_upload is null then 0 else 1 end) = 1"
)


def upgrade() -> None:
    """Bring the tables forward."""
    _new_tables()
    _add_zero("job", "rejected", sa.Integer())
    with op.batch_alter_table("job") as table:
        table.add_column(sa.Column("retry_of", sa.String(48)))
        table.add_column(sa.Column("reason", sa.String(64)))
        table.add_column(sa.Column("reason_detail", sa.String(1000)))
        table.add_column(sa.Column("deleted_at", MOMENT))
        table.drop_constraint(op.f("ck_job_state"), type_="check")
        table.create_check_constraint(
            op.f("ck_job_state"), "state in ('expanding', 'queued', 'running', 'canceling', 'ended')"
        )
        table.create_check_constraint(op.f("ck_job_rejected"), "rejected >= 0")
    _partial_index("job", "ix_job_live", ["state", "id"], "state <> 'ended'")
    _partial_index("job", "ix_job_ended_at", ["ended_at"], "ended_at is not null")
    _partial_index("job", "ix_job_deleted_at", ["deleted_at"], "deleted_at is not null")
    for name in ("chunk", "outbox"):
        _add_zero(name, "turn", sa.BigInteger())
    op.drop_index("ix_chunk_state_lane_id", "chunk")
    op.create_index("ix_chunk_state_lane_turn_id", "chunk", ["state", "lane", "turn", "id"])
    op.create_index("ix_chunk_account_id_state_lane_turn", "chunk", ["account_id", "state", "lane", "turn"])
    op.create_index("ix_outbox_lane_turn_id", "outbox", ["lane", "turn", "id"])
    op.create_index(op.f("ix_outbox_chunk_id"), "outbox", ["chunk_id"])
    with op.batch_alter_table("item") as table:
        table.add_column(sa.Column("source_upload", sa.String(48)))
        table.create_foreign_key(op.f("fk_item_source_upload"), "upload", ["source_upload"], ["id"])
        table.drop_constraint(op.f("ck_item_source"), type_="check")
        table.create_check_constraint(op.f("ck_item_source"), ONE_SOURCE)
    op.create_index("ix_item_job_id_state_ordinal", "item", ["job_id", "state", "ordinal"])
    _partial_index("item", "ix_item_verdict", ["job_id", "verdict", "ordinal"], "verdict is not null")
    _partial_index("item", "ix_item_scanned", ["account_id", "image_sha256", "weights_sha256"], "state = 'done'")
    for column in ("source_blob", "source_upload", "view_blob"):
        _partial_index("item", f"ix_item_{column}", [column], f"{column} is not null")


def _new_tables() -> None:
    op.create_table(
        "source",
        sa.Column("job_id", sa.String(48), nullable=False),
        sa.Column("account_id", sa.String(48), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("blob", sa.String(64)),
        sa.Column("url", sa.String(4096)),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.String(1100), nullable=False),
        sa.CheckConstraint("kind in ('manifest', 'zip', 'prefix')", name=op.f("ck_source_kind")),
        sa.CheckConstraint("(blob is null) <> (url is null)", name=op.f("ck_source_place")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_source_account_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_source_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_source")),
    )
    op.create_index(op.f("ix_source_blob"), "source", ["blob"])
    op.create_table(
        "rejection",
        sa.Column("job_id", sa.String(48), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.String(48), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("detail", sa.String(1000), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_rejection_account_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_rejection_job_id")),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_rejection")),
    )
    op.create_table(
        "upload",
        sa.Column("id", sa.String(48), nullable=False),
        sa.Column("account_id", sa.String(48), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_upload_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload")),
    )
    op.create_index(op.f("ix_upload_expires_at"), "upload", ["expires_at"])
    op.create_table(
        "idempotency_key",
        sa.Column("account_id", sa.String(48), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(48), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_idempotency_key_account_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_idempotency_key_job_id")),
        sa.PrimaryKeyConstraint("account_id", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_index(op.f("ix_idempotency_key_job_id"), "idempotency_key", ["job_id"])
    op.create_index(op.f("ix_idempotency_key_created_at"), "idempotency_key", ["created_at"])
    op.create_table(
        "bucket_grant",
        sa.Column("account_id", sa.String(48), nullable=False),
        sa.Column("bucket", sa.String(63), nullable=False),
        sa.Column("prefix", sa.String(1024), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_bucket_grant_account_id")),
        sa.PrimaryKeyConstraint("account_id", "bucket", "prefix", name=op.f("pk_bucket_grant")),
    )


def _add_zero(table: str, column: str, kind: sa.types.TypeEngine[int]) -> None:
    """A column that is 0 in the rows there are, and that new rows must name."""
    # Two steps: SQLite copies the rows at the end of each, and then the default must still be there.
    with op.batch_alter_table(table) as batch:
        batch.add_column(sa.Column(column, kind, nullable=False, server_default="0"))
    with op.batch_alter_table(table) as batch:
        batch.alter_column(column, server_default=None)


def _partial_index(table: str, name: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    """Take the tables back. Jobs that only the newer tables can hold must be gone first."""
    for name in ("view_blob", "source_upload", "source_blob", "scanned", "verdict", "job_id_state_ordinal"):
        op.drop_index(f"ix_item_{name}", "item")
    with op.batch_alter_table("item") as table:
        table.drop_constraint(op.f("ck_item_source"), type_="check")
        table.create_check_constraint(op.f("ck_item_source"), "(source_blob is null) <> (source_url is null)")
        table.drop_constraint(op.f("fk_item_source_upload"), type_="foreignkey")
        table.drop_column("source_upload")
    op.drop_index(op.f("ix_outbox_chunk_id"), "outbox")
    op.drop_index("ix_outbox_lane_turn_id", "outbox")
    op.drop_index("ix_chunk_account_id_state_lane_turn", "chunk")
    op.drop_index("ix_chunk_state_lane_turn_id", "chunk")
    for name in ("chunk", "outbox"):
        with op.batch_alter_table(name) as table:
            table.drop_column("turn")
    op.create_index("ix_chunk_state_lane_id", "chunk", ["state", "lane", "id"])
    for name in ("deleted_at", "ended_at", "live"):
        op.drop_index(f"ix_job_{name}", "job")
    with op.batch_alter_table("job") as table:
        table.drop_constraint(op.f("ck_job_rejected"), type_="check")
        table.drop_constraint(op.f("ck_job_state"), type_="check")
        table.create_check_constraint(op.f("ck_job_state"), "state in ('queued', 'running', 'canceling', 'ended')")
        for column in ("deleted_at", "reason_detail", "reason", "rejected", "retry_of"):
            table.drop_column(column)
    for name in ("bucket_grant", "idempotency_key", "upload", "rejection", "source"):
        op.drop_table(name)
