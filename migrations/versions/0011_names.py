"""Names in the one spelling in which they are looked for (NFC, no space around them): those of before this was so."""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

LONGEST = 200


def upgrade() -> None:
    """Respell names. Of two that become the same, the later one gets a number."""
    for table in ("account", "moderator"):
        _respell(sa.table(table, sa.column("id", sa.String), sa.column("name", sa.String)))


def downgrade() -> None:
    """Nothing: the names are good ones for the version before."""


def _respell(table: sa.TableClause) -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.select(table.c.id, table.c.name).order_by(table.c.id)).all()
    taken = {row.name for row in rows}
    for row in rows:
        spelt = unicodedata.normalize("NFC", row.name).strip()[:LONGEST]
        if spelt in ("", row.name):
            continue
        name, number = spelt, 2
        while name in taken:
            ending = f" {number}"
            name, number = spelt[: LONGEST - len(ending)] + ending, number + 1
        taken.add(name)
        connection.execute(sa.update(table).where(table.c.id == row.id).values(name=name))
