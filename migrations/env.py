"""Alembic's entry: the URL comes from the caller's Config, else from the settings."""

from alembic import context
from sqlalchemy import text

from shield.db import open_engine
from shield.models import Base
from shield.settings import settings

url = context.config.get_main_option("sqlalchemy.url") or settings().database

engine = open_engine(url)
with engine.connect() as connection:
    if engine.dialect.name == "sqlite":
        # SQLite alters a table by rebuilding it, and dropping the old one would count as deleting what others refer to.
        # The pragma is heeded outside of a transaction alone.
        connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
    else:
        connection.execute(text("set statement_timeout = 0"))  # an index on millions of rows takes minutes
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,  # SQLite alters a table by rebuilding it
        compare_type=True,
        user_module_prefix="shield.db.",
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
