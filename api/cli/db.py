"""`arcfleet db`: the database's schema."""

from __future__ import annotations

import click

from archive import schema
from config import settings


@click.group()
def db() -> None:
    """Look at the database's schema, or bring it to this version.

    Example: arcfleet db upgrade
    """


@db.command()
def upgrade() -> None:
    """Bring the schema to the revision that this version needs.

    Example: arcfleet db upgrade
    """
    url = settings.current().database()
    before = schema.current_revision(url)
    after = schema.upgrade(url)
    click.echo(f"at revision {after} already" if before == after else f"upgraded from {before or 'empty'} to {after}")


@db.command()
def current() -> None:
    """Print the revision of the database.

    Example: arcfleet db current
    """
    click.echo(schema.current_revision(settings.current().database()) or "empty")


@db.command()
def check() -> None:
    """See that the schema is the one that this version needs; exit code 1 if it is not.

    Example: arcfleet db check
    """
    schema.check(settings.current().database())
    click.echo(f"at revision {schema.head_revision()}, as expected")
