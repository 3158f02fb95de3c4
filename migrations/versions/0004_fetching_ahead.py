"""Chunks that are fetched ahead of their scan, and the order of their turns."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

REMOTE = """
    update chunk set ahead = true
    where state = 'ready' and not alone
        and exists (select 1 from item where item.chunk_id = chunk.id and item.source_url is not null)
"""


def upgrade() -> None:
    """Bring the tables forward."""
    # Two steps: SQLite copies the rows at the end of each, and then the default must still be there.
    with op.batch_alter_table("chunk") as table:
        table.add_column(sa.Column("ahead", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("chunk") as table:
        table.alter_column("ahead", server_default=None)
    op.execute(REMOTE)
    op.drop_index("ix_chunk_account_id_state_lane_turn", "chunk")
    op.drop_index("ix_chunk_state_lane_turn_id", "chunk")
    op.create_index("ix_chunk_state_lane_ahead_turn_id", "chunk", ["state", "lane", "ahead", "turn", "id"])
    op.create_index(
        "ix_chunk_account_id_state_lane_ahead_turn", "chunk", ["account_id", "state", "lane", "ahead", "turn"]
    )


def downgrade() -> None:
    """Take the tables back."""
    op.drop_index("ix_chunk_account_id_state_lane_ahead_turn", "chunk")
    op.drop_index("ix_chunk_state_lane_ahead_turn_id", "chunk")
    op.create_index("ix_chunk_state_lane_turn_id", "chunk", ["state", "lane", "turn", "id"])
    op.create_index("ix_chunk_account_id_state_lane_turn", "chunk", ["account_id", "state", "lane", "turn"])
    with op.batch_alter_table("chunk") as table:
        table.drop_column("ahead")
