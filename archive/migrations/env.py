"""Run the revisions on the connection that `archive.schema` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection


def run(connection: Connection) -> None:
    """Run what was asked for, all of it in the caller's transaction."""
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
