"""`arcfleet token`: who may use REST."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from api import audit, security
from api.audit import Entry
from api.cli import connection
from api.client import own_account
from archive import schema
from archive.accounts import Role
from config import settings


@click.group()
def token() -> None:
    """Say who may use REST, and as what.

    Example: arcfleet token add night-shift --role operator
    """
    connection.log_little()


def _check() -> None:
    """Raises SchemaError: no database, or one of another version."""
    schema.check(settings.current().database())


@token.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    required=True,
    help="What it may do; each role includes those before it.",
)
@click.option("--days", type=click.IntRange(1, 3650), help="Days until it expires; absent: never.")
@click.option("--from-file", type=click.File("r"), help="Take the token that this file holds, - for standard input.")
def add(name: str, role: str, days: int | None, from_file: Any) -> None:
    """Make a token and print it; it is shown this once. One from a file may be there already.

    Example: arcfleet token add viewer --role reader --days 365
    """
    _check()
    if not name.isprintable() or not name.strip():
        raise click.UsageError(f"NAME {name!r}: expected printable characters")
    account = own_account()
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    given = None if from_file is None else from_file.read().strip()
    if given is not None and security.is_valid(given):
        click.echo("the token is there already")
        return
    made = security.add_token(name, Role(role), account.name, expires_at, given)
    audit.write(account, "AddToken", f"{name}, {role}", Entry(count=1))
    click.echo(made if given is None else f"Token {name} is added")


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, as_json: bool) -> None:
    """List who has a token.

    Example: arcfleet token list
    """
    _check()
    names = ("name", "role", "created", "created_by", "expires", "revoked", "last_used")
    found = [
        (one.name, one.role, _time(one.created_at), one.created_by, _time(one.expires_at), _time(one.revoked_at),
         _time(one.last_used_at))
        for one in security.tokens()
    ]  # fmt: skip
    if as_json:
        connection.show_json([dict(zip(names, values, strict=True)) for values in found])
        return
    rows = connection.table(*names)
    for values in found:
        rows.add_row(*(value or "" for value in values))
    connection.show(rows)


@token.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Make a token worthless from the next request on.

    Example: arcfleet token revoke viewer
    """
    _check()
    security.revoke_token(name)
    audit.write(own_account(), "RevokeToken", name, Entry(count=1))
    click.echo(f"Token {name} is revoked")


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(settings.current().zone()).isoformat(timespec="seconds")
