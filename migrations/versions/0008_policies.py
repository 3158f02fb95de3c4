"""Policies of accounts: versions that the database itself keeps as they were published."""

import sqlalchemy as sa
from alembic import op

import shield.db

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MOMENT = shield.db.UtcDateTime(timezone=True)
ID = sa.String(48)
REFUSAL = "a published policy never changes"


def upgrade() -> None:
    """Bring the tables forward."""
    op.create_table(
        "policy_version",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("number", sa.Integer()),
        sa.Column("version", sa.String(100)),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("made_by", sa.String(64), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("published_by", sa.String(64)),
        sa.Column("published_at", MOMENT),
        sa.CheckConstraint("(number is null) = (published_at is null)", name=op.f("ck_policy_version_number")),
        sa.CheckConstraint("(version is null) = (published_at is null)", name=op.f("ck_policy_version_version")),
        sa.CheckConstraint("(published_by is null) = (published_at is null)", name=op.f("ck_policy_version_published")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_policy_version_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_version")),
        sa.UniqueConstraint("account_id", "number", name=op.f("uq_policy_version_account_id_number")),
        sa.UniqueConstraint("account_id", "version", name=op.f("uq_policy_version_account_id_version")),
    )
    draft = sa.text("published_at is null")
    op.create_index(
        "uq_policy_version_draft",
        "policy_version",
        ["account_id"],
        unique=True,
        sqlite_where=draft,
        postgresql_where=draft,
    )
    _keep_published()


def _keep_published() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("update", "delete"):
            op.execute(
                f"create trigger policy_version_no_{change} before {change} on policy_version"
                f" when old.published_at is not null begin select raise(abort, '{REFUSAL}'); end"
            )
        return
    op.execute(
        "create function policy_version_refuse() returns trigger language plpgsql as"
        f" $$ begin raise exception '{REFUSAL}'; end $$"
    )
    op.execute(
        "create trigger policy_version_published before update or delete on policy_version"
        " for each row when (old.published_at is not null) execute function policy_version_refuse()"
    )


def downgrade() -> None:
    """Take the tables back: the policies with them."""
    op.drop_table("policy_version")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("drop function policy_version_refuse()")
