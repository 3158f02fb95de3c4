"""The first tables."""

import sqlalchemy as sa
from alembic import op

import shield.db

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    op.create_table(
        "account",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", shield.db.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("name", name=op.f("uq_account_name")),
    )
    op.create_table(
        "weights",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("version", sa.String(length=50), nullable=False),
        sa.Column("fake_threshold", sa.Double(), nullable=False),
        sa.Column("suspect_threshold", sa.Double(), nullable=False),
        sa.Column("registered_at", shield.db.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_weights")),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", shield.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", shield.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_api_key_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_api_key_secret_sha256")),
    )
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_api_key_account_id"), ["account_id"], unique=False)

    op.create_table(
        "job",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("canceled", sa.Integer(), nullable=False),
        sa.Column("fake", sa.Integer(), nullable=False),
        sa.Column("suspect", sa.Integer(), nullable=False),
        sa.Column("clear", sa.Integer(), nullable=False),
        sa.Column("no_face", sa.Integer(), nullable=False),
        sa.Column("inconclusive", sa.Integer(), nullable=False),
        sa.Column("created_at", shield.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("started_at", shield.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("ended_at", shield.db.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'ended') = (ended_at is not null)", name=op.f("ck_job_ended")),
        sa.CheckConstraint("state <> 'ended' or done + failed + canceled = total", name=op.f("ck_job_complete")),
        sa.CheckConstraint("state in ('queued', 'running', 'canceling', 'ended')", name=op.f("ck_job_state")),
        sa.CheckConstraint("done + failed + canceled <= total", name=op.f("ck_job_counts")),
        sa.CheckConstraint("fake + suspect + clear + no_face + inconclusive = done", name=op.f("ck_job_verdicts")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_job_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.create_index("ix_job_account_id_id", ["account_id", "id"], unique=False)

    op.create_table(
        "login_link",
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("expires_at", shield.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("used_at", shield.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_login_link_account_id")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_login_link")),
    )
    op.create_table(
        "chunk",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("job_id", sa.String(length=48), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("alone", sa.Boolean(), nullable=False),
        sa.Column("lease_token", sa.String(length=48), nullable=True),
        sa.Column("lease_until", shield.db.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'leased') = (lease_token is not null)", name=op.f("ck_chunk_lease")),
        sa.CheckConstraint("state in ('ready', 'leased', 'done', 'split')", name=op.f("ck_chunk_state")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_chunk_account_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_chunk_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunk")),
    )
    with op.batch_alter_table("chunk", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_chunk_job_id"), ["job_id"], unique=False)
        batch_op.create_index("ix_chunk_state_lane_id", ["state", "lane", "id"], unique=False)
        batch_op.create_index("ix_chunk_state_lease_until", ["state", "lease_until"], unique=False)

    op.create_table(
        "item",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("job_id", sa.String(length=48), nullable=False),
        sa.Column("chunk_id", sa.String(length=48), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("custom_id", sa.String(length=1024), nullable=True),
        sa.Column("source_blob", sa.String(length=64), nullable=True),
        sa.Column("source_url", sa.String(length=4096), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_detail", sa.String(length=1000), nullable=True),
        sa.Column("image_width", sa.Integer(), nullable=True),
        sa.Column("image_height", sa.Integer(), nullable=True),
        sa.Column("image_format", sa.String(length=16), nullable=True),
        sa.Column("image_sha256", sa.String(length=64), nullable=True),
        sa.Column("view_blob", sa.String(length=64), nullable=True),
        sa.Column("weights_sha256", sa.String(length=64), nullable=True),
        sa.Column("policy_version", sa.String(length=100), nullable=True),
        sa.Column("from_cache", sa.Boolean(), nullable=False),
        sa.Column("ended_at", shield.db.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'done') = (verdict is not null)", name=op.f("ck_item_result")),
        sa.CheckConstraint("(state = 'failed') = (error_code is not null)", name=op.f("ck_item_error")),
        sa.CheckConstraint("state in ('pending', 'leased', 'done', 'failed', 'canceled')", name=op.f("ck_item_state")),
        sa.CheckConstraint(
            "verdict is null or verdict in ('fake', 'suspect', 'clear', 'no_face', 'inconclusive')",
            name=op.f("ck_item_verdict"),
        ),
        sa.CheckConstraint("(source_blob is null) <> (source_url is null)", name=op.f("ck_item_source")),
        sa.CheckConstraint("score is null or (score >= 0 and score <= 1)", name=op.f("ck_item_score")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_item_account_id")),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunk.id"], name=op.f("fk_item_chunk_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_item_job_id")),
        sa.ForeignKeyConstraint(["weights_sha256"], ["weights.sha256"], name=op.f("fk_item_weights_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_item")),
        sa.UniqueConstraint("job_id", "ordinal", name=op.f("uq_item_job_id_ordinal")),
    )
    with op.batch_alter_table("item", schema=None) as batch_op:
        batch_op.create_index("ix_item_chunk_id_ordinal", ["chunk_id", "ordinal"], unique=False)

    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("chunk_id", sa.String(length=48), nullable=False),
        sa.Column("created_at", shield.db.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_outbox_account_id")),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunk.id"], name=op.f("fk_outbox_chunk_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_table(
        "face",
        sa.Column("item_id", sa.String(length=48), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("left", sa.Double(), nullable=False),
        sa.Column("top", sa.Double(), nullable=False),
        sa.Column("width", sa.Double(), nullable=False),
        sa.Column("height", sa.Double(), nullable=False),
        sa.Column("detection_score", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("landmarks", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_face_account_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_face_item_id")),
        sa.PrimaryKeyConstraint("item_id", "ordinal", name=op.f("pk_face")),
    )


def downgrade() -> None:
    """Take the tables back."""
    op.drop_table("face")
    op.drop_table("outbox")
    with op.batch_alter_table("item", schema=None) as batch_op:
        batch_op.drop_index("ix_item_chunk_id_ordinal")

    op.drop_table("item")
    with op.batch_alter_table("chunk", schema=None) as batch_op:
        batch_op.drop_index("ix_chunk_state_lease_until")
        batch_op.drop_index("ix_chunk_state_lane_id")
        batch_op.drop_index(batch_op.f("ix_chunk_job_id"))

    op.drop_table("chunk")
    op.drop_table("login_link")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index("ix_job_account_id_id")

    op.drop_table("job")
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_api_key_account_id"))

    op.drop_table("api_key")
    op.drop_table("weights")
    op.drop_table("account")
