"""`arcfleet intake`: take the jobs that other services send as Celery messages, and say what became of them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import click

from api.cli import connection
from archive import schema
from config import settings
from tasks import job_schema
from workers import intake as worker


@click.group(invoke_without_command=True)
@click.pass_context
def intake(context: click.Context) -> None:
    """Take the jobs that other services send as Celery messages; without a command: until told to end.

    Example: arcfleet intake
    """
    if context.invoked_subcommand is not None:
        return
    schema.check(settings.current().database())
    settings.current().broker()
    worker.run(settings.current().log)


@intake.command()
@click.argument("message_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection.options
def show(message_id: str, url: str | None, token_file: Any, *, as_json: bool) -> None:
    """Say what became of the message with this id; it is an error if nobody knows it.

    Example: arcfleet intake show 6f1f3c52-8a0a-4f6e-9f0e-0c6d5f6c7b1d
    """
    with connection.connected(url, token_file) as client:
        found = client.call("GET", f"/intake/{quote(message_id, safe='')}").json()
    if as_json:
        connection.show_json(found)
    elif found["status"] == "accepted":
        click.echo(f"accepted {connection.short(found['time'])}: task {', '.join(map(str, found['taskIDs']))}")
    else:
        click.echo(f"refused {connection.short(found['time'])}: {found['reason']}")


@intake.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection.options
def refused(limit: int, url: str | None, token_file: Any, *, as_json: bool) -> None:
    """List the messages that were refused last, and why.

    Example: arcfleet intake refused --limit 5
    """
    with connection.connected(url, token_file) as client:
        found = client.call("GET", "/intake", [("limit", str(limit))]).json()
    if as_json:
        connection.show_json(found)
        return
    rows = connection.table("time", "message", "reason")
    for one in found:
        rows.add_row(connection.short(one["time"]), one["messageID"], one["reason"])
    connection.show(rows)


@intake.command("schema")
def schema_() -> None:
    """Print the JSON Schema of the messages.

    Example: arcfleet intake schema
    """
    click.echo(json.dumps(job_schema.document(), indent=2))
