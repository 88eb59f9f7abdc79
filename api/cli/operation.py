"""`arcfleet operation`: changes of many tasks that run by themselves: how far they are, and ending them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click
from rich.text import Text

from api.cli import connection
from api.cli.connection import connected


@click.group()
def operation() -> None:
    """Show changes of many tasks that run by themselves, and end them.

    Example: arcfleet operation list
    """


@operation.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Operations at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON of the service.")
@connection.options
def list_(url: str | None, token_file: Any, *, limit: int, as_json: bool) -> None:
    """List operations, the newest first.

    Example: arcfleet operation list
    """
    with connected(url, token_file) as client:
        found = client.call("GET", "/monitor/operations", [("limit", str(limit))]).json()
    if as_json:
        connection.show_json(found)
        return
    rows = connection.table("operation", "state", "action", "done", "refused", "of", "requested", "by", "why")
    for one in found:
        rows.add_row(
            one["operationID"],
            one["state"],
            one["action"],
            str(one["count"]),
            str(one["failed"]),
            "" if one["total"] is None else str(one["total"]),
            connection.short(one["requestedTime"]),
            Text(one["requester"]),
            Text(one["errorMessage"] or (f"stopped by {one['stopAskedBy']}" if one["stopAskedBy"] else "")),
        )
    connection.show(rows)


@operation.command()
@click.argument("operation_id", metavar="ID")
@connection.options
def show(operation_id: str, url: str | None, token_file: Any) -> None:
    """Show all of one operation, as JSON.

    Example: arcfleet operation show 0a1b2c3d-0000-4000-8000-000000000000
    """
    with connected(url, token_file) as client:
        connection.show_json(client.call("GET", f"/monitor/operations/{quote(operation_id, safe='')}").json())


@operation.command()
@click.argument("operation_id", metavar="ID")
@connection.options
def cancel(operation_id: str, url: str | None, token_file: Any) -> None:
    """End an operation within a second or so; what it has changed by then stays changed.

    Example: arcfleet operation cancel 0a1b2c3d-0000-4000-8000-000000000000
    """
    with connected(url, token_file) as client:
        client.call("POST", f"/monitor/operations/{quote(operation_id, safe='')}/cancel")
    click.echo(f"Operation {operation_id} is asked to stop")
