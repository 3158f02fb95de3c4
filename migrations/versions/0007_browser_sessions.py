"""Browser sessions: a row for each, which ends with it. What a moderator's count of them was for, they do better."""

import sqlalchemy as sa
from alembic import op

import shield.db

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MOMENT = shield.db.UtcDateTime(timezone=True)
ID = sa.String(48)
NEVER_COUNTED = "1000000"  # more than any cookie of before says: going back opens none of them again


def upgrade() -> None:
    """Bring the tables forward. Who is signed in has to sign in again."""
    op.create_table(
        "browser_session",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("moderator_id", ID),
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_browser_session_account_id")),
        sa.ForeignKeyConstraint(["moderator_id"], ["moderator.id"], name=op.f("fk_browser_session_moderator_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_browser_session")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_browser_session_token_sha256")),
    )
    op.create_index(op.f("ix_browser_session_account_id"), "browser_session", ["account_id"])
    with op.batch_alter_table("moderator") as table:
        table.drop_column("sessions")


def downgrade() -> None:
    """Take the tables back."""
    op.drop_table("browser_session")
    with op.batch_alter_table("moderator") as table:
        table.add_column(sa.Column("sessions", sa.Integer(), nullable=False, server_default=NEVER_COUNTED))
    with op.batch_alter_table("moderator") as table:
        table.alter_column("sessions", server_default=None)
