"""`arcfleet device`: which devices live; pause, drain and resume them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import click
from rich.text import Text

from api.cli import connection
from api.cli.connection import connected

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def device() -> None:
    """Show which devices live; pause, drain and resume them.

    Example: arcfleet device list
    """


def _pausing(command: F) -> F:
    command = click.option("--until", help="End, yyyyMMddHHmmss in the device's time zone.")(command)
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
def drain(name: str, **given: Any) -> None:
    """Let a device finish what runs and take nothing new.

    Waiting tasks stay; to move them: arcfleet task reschedule --device NAME --status waiting --new-device OTHER
    --keep-scheduled-time

    Example: arcfleet device drain archive-a --why "goes out of service"
    """
    _change(name, "drain", "drained", given)


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
    names = {"queue": "dcmQueueName", "why": "why", "until": "until"}
    parameters = [(names[option], given[option]) for option in names if given.get(option) is not None]
    with connected(given["url"], given["token_file"]) as client:
        client.call("POST", f"/devices/{quote(name, safe='')}/{what}", parameters)
    queue = f"Queue {given['queue']} of device" if given["queue"] else "Device"
    click.echo(f"{queue} {name} is {done}")


def _paused(pause: dict[str, Any]) -> str:
    what = "all" if pause["queue"] == "*" else pause["queue"]
    until = f" until {pause['until']}" if pause["until"] else ""
    why = f": {pause['why']}" if pause["why"] else ""
    return f"{what} {'drained' if pause['draining'] else 'paused'} by {pause['who']}{until}{why}"
