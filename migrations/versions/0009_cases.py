"""Cases, decisions, which the database itself keeps unchanged, and how each moderator wants photos to be shown."""

import sqlalchemy as sa
from alembic import op

import shield.db

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MOMENT = shield.db.UtcDateTime(timezone=True)
ID = sa.String(48)
UNDECIDED = sa.text("state <> 'decided'")
REASONS = (
    "'impersonation', 'intimate', 'fraud', 'deception', 'generated', 'authentic', 'retouched', 'not_a_face',"
    " 'satire', 'unsure', 'other'"
)
REFUSAL = "decisions never change"


def upgrade() -> None:
    """Bring the tables forward."""
    op.add_column("item", sa.Column("image_hash", sa.String(16)))  # not in a batch, which would copy every item
    # Two steps: SQLite copies the rows at the end of each, and then the default must still be there.
    with op.batch_alter_table("moderator") as table:
        table.add_column(sa.Column("blur", sa.Boolean(), nullable=False, server_default=sa.true()))
        table.add_column(sa.Column("greyscale", sa.Boolean(), nullable=False, server_default=sa.true()))
    with op.batch_alter_table("moderator") as table:
        for name in ("blur", "greyscale"):
            table.alter_column(name, server_default=None)
    _create_cases()
    _create_decisions()
    op.create_table(
        "case_piece",
        sa.Column("case_id", ID, nullable=False),
        sa.Column("piece", sa.Integer(), nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["review_case.id"], name=op.f("fk_case_piece_case_id")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_case_piece_account_id")),
        sa.PrimaryKeyConstraint("case_id", "piece", name=op.f("pk_case_piece")),
    )
    op.create_index("ix_case_piece_account_id_piece", "case_piece", ["account_id", "piece"])


def _create_cases() -> None:
    op.create_table(
        "review_case",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("item_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("image_hash", sa.String(16)),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("claimed_by", sa.String(64)),
        sa.Column("claim_token", ID),
        sa.Column("claimed_until", MOMENT),
        sa.Column("decided_at", MOMENT),
        sa.Column("decided_by", sa.String(64)),
        sa.Column("answer", sa.String(16)),
        sa.CheckConstraint("state in ('open', 'claimed', 'decided')", name=op.f("ck_review_case_state")),
        sa.CheckConstraint("level in ('moderator', 'lead')", name=op.f("ck_review_case_level")),
        sa.CheckConstraint("reason in ('flagged', 'sample')", name=op.f("ck_review_case_reason")),
        sa.CheckConstraint(
            "verdict in ('fake', 'suspect', 'clear', 'no_face', 'inconclusive')", name=op.f("ck_review_case_verdict")
        ),
        sa.CheckConstraint("answer is null or answer in ('uphold', 'overturn')", name=op.f("ck_review_case_answer")),
        sa.CheckConstraint("(state = 'claimed') = (claim_token is not null)", name=op.f("ck_review_case_claim")),
        sa.CheckConstraint("(claim_token is null) = (claimed_until is null)", name=op.f("ck_review_case_claim_end")),
        sa.CheckConstraint("(claim_token is null) = (claimed_by is null)", name=op.f("ck_review_case_claimant")),
        sa.CheckConstraint("(state = 'decided') = (answer is not null)", name=op.f("ck_review_case_decided")),
        sa.CheckConstraint("(answer is null) = (decided_at is null)", name=op.f("ck_review_case_decided_at")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_review_case_account_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_review_case_item_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_review_case_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_case")),
        sa.UniqueConstraint("item_id", name=op.f("uq_review_case_item_id")),
    )
    op.create_index(op.f("ix_review_case_job_id"), "review_case", ["job_id"])
    for name, where, columns in (
        ("priority", UNDECIDED, ["account_id", "priority", "id"]),
        ("age", UNDECIDED, ["account_id", "id"]),
        ("score", UNDECIDED, ["account_id", "score", "id"]),
        ("job", UNDECIDED, ["account_id", "job_id", "priority", "id"]),
        ("decided", sa.text("decided_at is not null"), ["account_id", "decided_at", "id"]),
        ("claimed_until", sa.text("claimed_until is not null"), ["claimed_until"]),
    ):
        op.create_index(f"ix_review_case_{name}", "review_case", columns, sqlite_where=where, postgresql_where=where)


def _create_decisions() -> None:
    op.create_table(
        "decision",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("case_id", ID, nullable=False),
        sa.Column("answer", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32)),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("undoes", ID),
        sa.Column("decided_at", MOMENT, nullable=False),
        sa.CheckConstraint(
            "answer in ('uphold', 'overturn', 'escalate', 'skip', 'undo')", name=op.f("ck_decision_answer")
        ),
        sa.CheckConstraint(f"reason is null or reason in ({REASONS})", name=op.f("ck_decision_reason")),
        sa.CheckConstraint("(answer = 'undo') = (undoes is not null)", name=op.f("ck_decision_undoes")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_decision_account_id")),
        sa.ForeignKeyConstraint(["case_id"], ["review_case.id"], name=op.f("fk_decision_case_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
    )
    op.create_index(op.f("ix_decision_case_id"), "decision", ["case_id"])
    op.create_index("ix_decision_account_id_actor_id", "decision", ["account_id", "actor", "id"])
    undone = sa.text("undoes is not null")
    op.create_index(
        "uq_decision_undoes", "decision", ["undoes"], unique=True, sqlite_where=undone, postgresql_where=undone
    )
    _keep_unchanged()


def _keep_unchanged() -> None:
    """Rows are deleted with their job, and never changed."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"create trigger decision_no_update before update on decision begin select raise(abort, '{REFUSAL}'); end"
        )
        return
    op.execute(
        "create function decision_refuse() returns trigger language plpgsql as"
        f" $$ begin raise exception '{REFUSAL}'; end $$"
    )
    op.execute(
        "create trigger decision_no_update before update on decision"
        " for each statement execute function decision_refuse()"
    )


def downgrade() -> None:
    """Take the tables back: what was decided with them."""
    op.drop_table("case_piece")
    op.drop_table("decision")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("drop function decision_refuse()")
    op.drop_table("review_case")
    with op.batch_alter_table("moderator") as table:
        for name in ("greyscale", "blur"):
            table.drop_column(name)
    op.drop_column("item", "image_hash")
