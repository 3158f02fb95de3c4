"""Whether a leased chunk is being scanned, or only fetched ahead: whom to blame when its worker dies."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward. What is leased counts as begun, as it did."""
    # Two steps: SQLite copies the rows at the end of each, and then the default must still be there.
    with op.batch_alter_table("chunk") as table:
        table.add_column(sa.Column("begun", sa.Boolean(), nullable=False, server_default=sa.true()))
    with op.batch_alter_table("chunk") as table:
        table.alter_column("begun", server_default=None)


def downgrade() -> None:
    """Take the tables back."""
    with op.batch_alter_table("chunk") as table:
        table.drop_column("begun")
