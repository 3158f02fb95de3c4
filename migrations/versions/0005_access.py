"""Scopes and ends of API keys, moderators, and the audit log, which the database itself keeps append-only."""

import sqlalchemy as sa
from alembic import op

import shield.db

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENT = shield.db.UtcDateTime(timezone=True)
ID = sa.String(48)
ALL_SCOPES = '["jobs:read", "jobs:write", "review", "admin"]'
REFUSAL = "the audit log is append-only"


def upgrade() -> None:
    """Bring the tables forward. The keys there are may do everything, as they could."""
    # Two steps: SQLite copies the rows at the end of each, and then the default must still be there.
    with op.batch_alter_table("api_key") as table:
        table.add_column(sa.Column("name", sa.String(200), nullable=False, server_default=""))
        table.add_column(sa.Column("hint", sa.String(8), nullable=False, server_default=""))
        table.add_column(sa.Column("scopes", sa.JSON(), nullable=False, server_default=ALL_SCOPES))
        table.add_column(sa.Column("expires_at", MOMENT))
        table.add_column(sa.Column("used_at", MOMENT))
    with op.batch_alter_table("api_key") as table:
        for name in ("name", "hint", "scopes"):
            table.alter_column(name, server_default=None)
    op.create_table(
        "moderator",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("sessions", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("disabled_at", MOMENT),
        sa.CheckConstraint("role in ('moderator', 'lead', 'admin')", name=op.f("ck_moderator_role")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_moderator_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moderator")),
        sa.UniqueConstraint("name", name=op.f("uq_moderator_name")),
    )
    op.create_index(op.f("ix_moderator_account_id"), "moderator", ["account_id"])
    op.create_table(
        "audit_entry",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("account_id", ID),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_entry")),
    )
    op.create_index("ix_audit_entry_account_id_number", "audit_entry", ["account_id", "number"])
    _keep_append_only()


def _keep_append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("update", "delete"):
            op.execute(
                f"create trigger audit_entry_no_{change} before {change} on audit_entry"
                f" begin select raise(abort, '{REFUSAL}'); end"
            )
        return
    op.execute(
        "create function audit_entry_refuse() returns trigger language plpgsql as"
        f" $$ begin raise exception '{REFUSAL}'; end $$"
    )
    op.execute(
        "create trigger audit_entry_append_only before update or delete or truncate on audit_entry"
        " for each statement execute function audit_entry_refuse()"
    )


def downgrade() -> None:
    """Take the tables back: the log with them."""
    op.drop_table("audit_entry")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("drop function audit_entry_refuse()")
    op.drop_table("moderator")
    with op.batch_alter_table("api_key") as table:
        for name in ("used_at", "expires_at", "scopes", "hint", "name"):
            table.drop_column(name)
