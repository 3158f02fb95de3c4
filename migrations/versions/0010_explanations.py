"""Explanations: why the faces of an item score as they do, made when somebody asks."""

import sqlalchemy as sa
from alembic import op

import shield.db

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MOMENT = shield.db.UtcDateTime(timezone=True)
ID = sa.String(48)
HASH = sa.String(64)
PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    """Bring the tables forward."""
    op.create_table(
        "explanation",
        sa.Column("item_id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("held_until", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("picture", sa.String(16)),
        sa.Column("weights_sha256", HASH),
        sa.Column("reason", sa.String(64)),
        sa.CheckConstraint("state in ('pending', 'ready', 'failed')", name=op.f("ck_explanation_state")),
        sa.CheckConstraint("picture is null or picture in ('original', 'view')", name=op.f("ck_explanation_picture")),
        sa.CheckConstraint("(state = 'pending') = (ended_at is null)", name=op.f("ck_explanation_ended")),
        sa.CheckConstraint("(state = 'ready') = (picture is not null)", name=op.f("ck_explanation_ready")),
        sa.CheckConstraint("(state = 'ready') = (weights_sha256 is not null)", name=op.f("ck_explanation_weights")),
        sa.CheckConstraint("(state = 'failed') = (reason is not null)", name=op.f("ck_explanation_failed")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_explanation_account_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_explanation_item_id")),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_explanation")),
    )
    for name, columns in (("pending", ["asked_at", "item_id"]), ("account_id", ["account_id"])):
        op.create_index(
            f"ix_explanation_{name}", "explanation", columns, sqlite_where=PENDING, postgresql_where=PENDING
        )
    op.create_table(
        "explained_face",
        sa.Column("item_id", ID, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("left", sa.Double(), nullable=False),
        sa.Column("top", sa.Double(), nullable=False),
        sa.Column("side", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("stability", sa.JSON(), nullable=False),
        sa.Column("crop_blob", HASH, nullable=False),
        sa.Column("heatmap_blob", HASH, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_explained_face_account_id")),
        sa.ForeignKeyConstraint(["item_id"], ["explanation.item_id"], name=op.f("fk_explained_face_item_id")),
        sa.PrimaryKeyConstraint("item_id", "ordinal", name=op.f("pk_explained_face")),
    )
    op.create_index(op.f("ix_explained_face_crop_blob"), "explained_face", ["crop_blob"])
    op.create_index(op.f("ix_explained_face_heatmap_blob"), "explained_face", ["heatmap_blob"])


def downgrade() -> None:
    """Take the tables back."""
    op.drop_table("explained_face")
    op.drop_table("explanation")
