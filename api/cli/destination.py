"""`arcfleet destination`: where tasks send to; hold, release and cap it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click
from rich.text import Text

from api.cli import connection
from api.cli.connection import connected


@click.group()
def destination() -> None:
    """Show where tasks send to, and whether it answers; hold, release and cap it for the whole cluster.

    Example: arcfleet destination list
    """


@destination.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection.options
def list_(url: str | None, token_file: Any, *, as_json: bool) -> None:
    """List the destinations of the cluster.

    Example: arcfleet destination list
    """
    with connected(url, token_file) as client:
        found = client.call("GET", "/destinations").json()
    if as_json:
        connection.show_json(found)
        return
    rows = connection.table("destination", "state", "running", "waiting", "cap", "because", "exporters")
    for one in found:
        rows.add_row(
            Text(one["destination"]),
            one["state"],
            str(one["running"]),
            str(one["waiting"]),
            str(one.get("cap", "")),
            Text("\n".join(_reasons(one))),
            Text(", ".join(one.get("exporters", []))),
        )
    connection.show(rows)


@destination.command()
@click.argument("name")
@click.option("--why", help="Shown to whoever wonders.")
@click.option("--until", help="End, yyyyMMddHHmmss in ARCFLEET_TIMEZONE.")
@connection.options
def hold(name: str, why: str | None, until: str | None, url: str | None, token_file: Any) -> None:
    """Let nothing new go to a destination; its tasks wait and keep their retries.

    Example: arcfleet destination hold dicom:PACS --why "is upgraded"
    """
    given = {"why": why, "until": until}
    _change(name, "hold", given, (url, token_file))
    click.echo(f"Destination {name} is held")


@destination.command()
@click.argument("name")
@connection.options
def release(name: str, url: str | None, token_file: Any) -> None:
    """End a hold; of a destination that fails, try it now.

    Example: arcfleet destination release dicom:PACS
    """
    _change(name, "release", {}, (url, token_file))
    click.echo(f"Destination {name} is released")


@destination.command()
@click.argument("name")
@click.argument("runs", type=click.IntRange(min=0), required=False)
@connection.options
def cap(name: str, runs: int | None, url: str | None, token_file: Any) -> None:
    """Let at most RUNS runs of the cluster go to a destination at once; without RUNS, any number.

    Example: arcfleet destination cap dicom:PACS 2
    """
    _change(name, "cap", {"cap": None if runs is None else str(runs)}, (url, token_file))
    click.echo(f"Destination {name} has {'no cap' if runs is None else f'a cap of {runs}'}")


def _change(name: str, what: str, given: dict[str, str | None], service: tuple[str | None, Any]) -> None:
    parameters = [(key, value) for key, value in given.items() if value is not None]
    with connected(*service) as client:
        client.call("POST", f"/destinations/{quote(name, safe='')}/{what}", parameters)


def _reasons(one: dict[str, Any]) -> list[str]:
    reasons = []
    if held := one.get("held"):
        until = f" until {connection.short(held['until'])}" if held["until"] else ""
        reasons.append(f"held by {held['who']}{until}{': ' + held['why'] if held['why'] else ''}")
    if breaker := one.get("breaker"):
        until = f", left alone until {connection.short(breaker['openUntil'])}" if breaker["phase"] == "open" else ""
        gently = f", {breaker['runsAtOnce']} at once" if breaker["runsAtOnce"] else ""
        last = f": {breaker['lastFailure']}" if breaker["lastFailure"] else ""
        reasons.append(f"{breaker['failures']} failures in a row{until}{gently}{last}")
    return reasons
