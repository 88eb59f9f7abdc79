"""`arcfleet device`: which devices live; pause, drain and resume them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import click
from rich.text import Text

from api.cli import connection, task_changes
from api.cli.connection import connected
from api.cli.task_changes import Manner

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def device() -> None:
    """Show which devices live; pause, drain and resume them.

    Example: arcfleet device list
    """


def _pausing(command: F) -> F:
    command = click.option("--until", help="End, yyyyMMddHHmmss in ARCFLEET_TIMEZONE.")(command)
    command = click.option("--why", help="Shown to whoever wonders.")(command)
    command = click.option("--queue", help="One queue of the device; absent: all.")(command)
    return click.argument("name")(connection.options(command))


@device.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection.options
def list_(url: str | None, token_file: Any, *, as_json: bool) -> None:
    """List the devices of the directory.

    Example: arcfleet device list
    """
    with connected(url, token_file) as client:
        found = client.call("GET", "/devices").json()
    if as_json:
        connection.show_json(found)
        return
    # Most clusters have none.
    fails_over = any("failover" in one for one in found)
    rows = connection.table(
        "device", "", "workers", "last heartbeat", "paused", *(["failover"] if fails_over else []), "description"
    )
    for one in found:
        state = "ours" if "liveWorkers" in one else "foreign" if one["foreign"] else "remote"
        rows.add_row(
            one["dicomDeviceName"],
            state if one["dicomInstalled"] else f"{state}, not installed",
            str(one.get("liveWorkers", "")),
            connection.short(one.get("lastHeartbeat")),
            Text("\n".join(_paused(pause) for pause in one.get("paused", []))),
            *([Text(_failover(one.get("failover", {})))] if fails_over else []),
            Text(one.get("dicomDescription", "")),
        )
    connection.show(rows)


@device.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection.options
def show(name: str, url: str | None, token_file: Any, *, as_json: bool) -> None:
    """Show the workers of a device, and which of its tasks stay if it is away.

    Example: arcfleet device show archive-a
    """
    with connected(url, token_file) as client:
        found = client.call("GET", "/devices", [("dicomDeviceName", name)]).json()
    if not found:
        raise click.ClickException(f"Unknown Device: {name}")
    if as_json:
        connection.show_json(found[0])
        return
    click.echo(f"{name} {found[0].get('url', 'has no URL')}")
    rows = connection.table("worker", "queue", "state", "since", "last heartbeat")
    for worker in found[0].get("workers", []):
        times = (connection.short(worker["since"]), connection.short(worker["lastHeartbeat"]))
        rows.add_row(worker["name"], worker["queue"], worker["state"], *times)
    connection.show(rows)
    told = found[0].get("failover", {})
    if told:
        click.echo(f"failover: {_failover(told)}")
    for one in told.get("reasons", []):
        click.echo(f"{one['count']:>8}  {one['reason']}")


@device.command()
@_pausing
def pause(name: str, **given: Any) -> None:
    """Let a device, or one queue of it, take nothing new.

    Example: arcfleet device pause archive-a --why "disk is replaced"
    """
    _change(name, "pause", "paused", given)


@device.command()
@_pausing
@click.option("--move-to", multiple=True, help="Device that waiting tasks move to; several take turns. Else they stay.")
@click.option("--dry-run", is_flag=True, help="Say what would be moved; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before tasks are moved.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON of the service, of what was moved.")
def drain(name: str, move_to: tuple[str, ...], **given: Any) -> None:
    """Let a device finish what runs and take nothing new; with --move-to its waiting tasks move, with their times.

    Example: arcfleet device drain archive-a --move-to archive-b --why "goes out of service"
    """
    if not move_to:
        if given["dry_run"]:
            raise click.UsageError("--dry-run: expected --move-to with it")
        _change(name, "drain", "drained", given)
        return
    service = ("POST", f"/devices/{quote(name, safe='')}/drain")
    parameters = [*_parameters(given), *(("newDeviceName", target) for target in move_to)]
    with connected(given["url"], given["token_file"]) as client:
        code = task_changes.change_many(client, service, parameters, Manner.of(given, "moved"))
    if not given["dry_run"] and not given["as_json"]:
        click.echo(_said(name, "drained", given))
    click.get_current_context().exit(code)


@device.command()
@click.argument("name")
@click.option("--queue", help="One queue of the device; absent: all.")
@connection.options
def resume(name: str, **given: Any) -> None:
    """End the pauses of a device, or of one queue of it.

    Example: arcfleet device resume archive-a
    """
    _change(name, "resume", "resumed", given)


def _failover(told: dict[str, Any]) -> str:
    to = f"to {', '.join(told['devices'])} after {told['afterSeconds']:g} s" if "afterSeconds" in told else ""
    if "awaySince" not in told:
        return to
    when = f"since {connection.short(told['awaySince'])}" if "backSince" not in told else "when it was away"
    return f"{to}\n{told['moved']} tasks moved {when}, {told['stay']} stay".strip()


def _change(name: str, what: str, done: str, given: dict[str, Any]) -> None:
    with connected(given["url"], given["token_file"]) as client:
        client.call("POST", f"/devices/{quote(name, safe='')}/{what}", _parameters(given))
    click.echo(_said(name, done, given))


def _parameters(given: dict[str, Any]) -> list[tuple[str, str]]:
    names = {"queue": "dcmQueueName", "why": "why", "until": "until"}
    return [(names[option], given[option]) for option in names if given.get(option) is not None]


def _said(name: str, done: str, given: dict[str, Any]) -> str:
    queue = f"Queue {given['queue']} of device" if given["queue"] else "Device"
    return f"{queue} {name} is {done}"


def _paused(pause: dict[str, Any]) -> str:
    what = "all" if pause["queue"] == "*" else pause["queue"]
    until = f" until {pause['until']}" if pause["until"] else ""
    why = f": {pause['why']}" if pause["why"] else ""
    return f"{what} {'drained' if pause['draining'] else 'paused'} by {pause['who']}{until}{why}"
