"""`arcfleet fs`: file systems of a group, what keeps a study there, and scheduling its deletion."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click
from rich.text import Text

from api import words
from api.cli import connection
from api.cli.connection import connected

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the JSON of the service.")
_PLACE = click.argument("place", metavar="DEVICE/GROUP")
_STUDY = click.argument("study", metavar="STUDY")


@click.group()
def fs() -> None:
    """Show file systems, explain what keeps a study there, and schedule studies for deletion.

    Example: arcfleet fs show archive-a/ONLINE_STORAGE
    """


@fs.command()
@_PLACE
@_JSON
@connection.options
def show(place: str, url: str | None, token_file: Any, *, as_json: bool) -> None:
    """Show the file systems of a group, its attributes, and the last look for studies to delete.

    Example: arcfleet fs show archive-a/ONLINE_STORAGE
    """
    with connected(url, token_file) as client:
        found = client.call("GET", _path(place)).json()
    if as_json:
        connection.show_json(found)
        return
    rows = connection.table("path", "status", "availability", "free", "total", "studies", "marked", "health")
    for one in found["fileSystems"]:
        rows.add_row(
            Text(one["path"]),
            one["status"],
            one["availability"],
            words.size(one["freeBytes"]),
            words.size(one["totalBytes"]),
            str(one["studies"]),
            f"{one['markedStudies']} ({words.size(one['markedBytes'])})",
            Text(one["problem"] or f"healthy at {connection.short(one['checkedAt'])}"),
        )
    connection.show(rows)
    attributes = connection.table("attribute", "value")
    for name, value in found["attributes"].items():
        attributes.add_row(name, Text(value))
    connection.show(attributes)
    last = found["scheduleStudiesForDeletion"]
    if last is not None and last["endedAt"] is not None:
        click.echo(f"last look at {connection.short(last['endedAt'])}: {last['result']}")


@fs.command()
@_PLACE
@_STUDY
@_JSON
@connection.options
def explain(place: str, study: str, url: str | None, token_file: Any, *, as_json: bool) -> None:
    """Say what keeps a study on the file systems of a group.

    Example: arcfleet fs explain archive-a/ONLINE_STORAGE 1.2.840.1
    """
    with connected(url, token_file) as client:
        found = client.call("GET", f"{_path(place)}/explain", [("studyUID", study)]).json()
    if as_json:
        connection.show_json(found)
        return
    for one in found:
        click.echo(
            f"Study {study} on {one['path']}: {one['files']} files, {one['bytes']} bytes, "
            f"last used {connection.short(one['accessTime'])}"
        )
        for trigger in one["triggers"]:
            click.echo(f"  {trigger['trigger']}: {'nothing keeps it' if trigger['deletable'] else 'kept'}")
            for reason in trigger["reasons"]:
                click.echo(f"    {reason['text']}")


@fs.command("schedule-study")
@_PLACE
@_STUDY
@_JSON
@connection.options
def schedule_study(place: str, study: str, url: str | None, token_file: Any, *, as_json: bool) -> None:
    """Schedule a study for deletion from a group, whatever its age; its last copy, tasks and protection keep it.

    Example: arcfleet fs schedule-study archive-a/ONLINE_STORAGE 1.2.840.1
    """
    with connected(url, token_file) as client:
        made = client.call("POST", f"{_path(place)}/scheduleStudyForDeletion", [("studyUID", study)]).json()
    if as_json:
        connection.show_json(made)
        return
    at = connection.short(made["scheduledTime"])
    click.echo(f"Study {study} is scheduled for {at}: task {', '.join(made['taskIDs'])}, {made['bytes']} bytes")
    for reason in made["refused"]:
        click.echo(reason["text"], err=True)


@fs.command("schedule-studies")
@_PLACE
@_JSON
@connection.options
def schedule_studies(place: str, url: str | None, token_file: Any, *, as_json: bool) -> None:
    """Look now for studies that the rules of a group let go, and schedule them for deletion.

    Example: arcfleet fs schedule-studies archive-a/ONLINE_STORAGE
    """
    with connected(url, token_file) as client:
        made = client.call("POST", f"{_path(place)}/scheduleStudiesForDeletion").json()
    if as_json:
        connection.show_json(made)
    else:
        click.echo(made["result"])


@fs.command()
@_STUDY
@click.option("--why", help="Shown to whoever wonders.")
@connection.options
def protect(study: str, why: str | None, url: str | None, token_file: Any) -> None:
    """Keep a study on every file system, whatever the rules say.

    Example: arcfleet fs protect 1.2.840.1 --why "teaching file"
    """
    _change(study, "protect", [("why", why)] if why else [], url, token_file)


@fs.command()
@_STUDY
@connection.options
def unprotect(study: str, url: str | None, token_file: Any) -> None:
    """Leave a study to the rules again.

    Example: arcfleet fs unprotect 1.2.840.1
    """
    _change(study, "unprotect", [], url, token_file)


def _change(study: str, what: str, parameters: list[tuple[str, str]], url: str | None, token_file: Any) -> None:
    with connected(url, token_file) as client:
        client.call("POST", f"/studies/{quote(study, safe='')}/{what}", parameters)
    click.echo(f"Study {study} is {what}ed")


def _path(place: str) -> str:
    device, slash, group = place.partition("/")
    if not (device and slash and group):
        raise click.UsageError(f"{place}: expected DEVICE/GROUP, for example archive-a/ONLINE_STORAGE")
    return f"/fs/{quote(device, safe='')}/{quote(group, safe='')}"
