"""`arcfleet task`: look at tasks, make, cancel, reschedule and delete them; the same answers as REST."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click
from rich.text import Text

from api.cli import connection, task_changes, task_creation, task_findings
from api.cli.connection import connected
from api.cli.task_options import Filters, filtered, id_option, kind_option, queue_option
from tasks.state import Status

_STYLES = {
    Status.COMPLETED: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.IN_PROCESS: "cyan",
    Status.CANCELED: "dim",
}  # fmt: skip

#: Tasks that a table shows unless told.
_SHOWN = 50


@click.group()
def task() -> None:
    """Look at tasks, make, cancel, reschedule and delete them.

    Example: arcfleet task list --status FAILED
    """


_MAKING = (task_creation.export, task_creation.retrieve, task_creation.diff, task_creation.verify)
_CHANGING = (task_changes.cancel, task_changes.reschedule, task_changes.delete)
_FINDINGS = (task_findings.failures, task_findings.differences)
for _command in (*_MAKING, *_CHANGING, *_FINDINGS):
    task.add_command(_command)


@task.command("list")
@id_option
@filtered
@click.option("--limit", type=click.IntRange(1, 99_999), help=f"Tasks at most; of a table {_SHOWN} unless told.")
@click.option("--offset", type=click.IntRange(0, 99_999), help="Tasks to skip.")
@click.option("--order", help="createdTime, updatedTime or scheduledTime, descending with a hyphen before.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON of the service.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the CSV of the service.")
@kind_option
@connection.options
def list_(kind: str, url: str | None, token_file: Any, *, as_json: bool, as_csv: bool, **given: Any) -> None:
    """List tasks, the one that changed last first.

    Example: arcfleet task list --device archive-a --status waiting
    """
    paging = {"limit": given.pop("limit"), "offset": given.pop("offset"), "orderby": given.pop("order")}
    if paging["limit"] is None and not (as_json or as_csv):
        paging["limit"] = _SHOWN
    chosen = Filters(given, kind)
    parameters = [*chosen.parameters(), *((n, str(v)) for n, v in paging.items() if v is not None)]
    with connected(url, token_file) as client:
        if as_json or as_csv:
            accept = "text/csv" if as_csv else "application/json"
            for part in client.download(chosen.path, parameters, accept):
                click.echo(part, nl=False)
            if as_json:
                click.echo()
            return
        found = client.call("GET", chosen.path, parameters).json()
    _show_tasks(found)


@task.command()
@id_option
@filtered
@click.option("--by-status", is_flag=True, help="One line a status.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@kind_option
@connection.options
def count(kind: str, url: str | None, token_file: Any, *, by_status: bool, as_json: bool, **given: Any) -> None:
    """Count tasks.

    Example: arcfleet task count --by-status
    """
    chosen = Filters(given, kind)
    with connected(url, token_file) as client:
        if not by_status:
            found = client.call("GET", f"{chosen.path}/count", chosen.parameters()).json()
            connection.show_json(found) if as_json else click.echo(found["count"])
            return
        others = [(name, value) for name, value in chosen.parameters() if name != "status"]
        numbers = {
            str(status): client.call("GET", f"{chosen.path}/count", [*others, ("status", str(status))]).json()["count"]
            for status in given["status"] or list(Status)
        }
    if as_json:
        connection.show_json(numbers)
        return
    rows = connection.table("status", "tasks")
    for name, number in numbers.items():
        rows.add_row(name, str(number))
    connection.show(rows)


@task.command()
@click.argument("task_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@queue_option
@kind_option
@connection.options
def show(task_id: str, url: str | None, token_file: Any, *, as_json: bool, **place: Any) -> None:
    """Show all of one task.

    Example: arcfleet task show 42
    """
    with connected(url, token_file) as client:
        found = client.call("GET", f"{_path_of(task_id, place)}").json()
    if as_json:
        connection.show_json(found)
        return
    rows = connection.table("", "")
    for name, value in found.items():
        if value not in (None, {}, ""):
            rows.add_row(Text(name), Text(str(value)))
    connection.show(rows)


@task.command()
@click.argument("task_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@queue_option
@kind_option
@connection.options
def history(task_id: str, url: str | None, token_file: Any, *, as_json: bool, **place: Any) -> None:
    """Show what happened to a task, oldest first; to a deleted one too.

    Example: arcfleet task history 42
    """
    with connected(url, token_file) as client:
        found = client.call("GET", f"{_path_of(task_id, place)}/history").json()
    if as_json:
        connection.show_json(found)
        return
    rows = connection.table("at", "event", "to", "device", "run", "by", "why")
    for one in found:
        cells = (
            connection.short(one["at"]),
            one["event"],
            one["to"],
            one["toDevice"],
            one["runID"],
            one["actor"],
            one["reason"],
        )
        rows.add_row(*(Text("" if cell is None else str(cell)) for cell in cells))
    connection.show(rows)


@task.command()
@click.argument("task_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@queue_option
@kind_option
@connection.options
def explain(task_id: str, url: str | None, token_file: Any, *, as_json: bool, **place: Any) -> None:
    """Say why a task does not run now.

    Example: arcfleet task explain 42
    """
    with connected(url, token_file) as client:
        found = client.call("GET", f"{_path_of(task_id, place)}/explain").json()
    if as_json:
        connection.show_json(found)
        return
    click.echo(f"Task {found['taskID']} is {found['status']}")
    if found["run"]:
        click.echo(f"run {found['run']['runID']} at {found['run']['worker'] or 'no worker yet'}")
    if found["mayRun"] and not found["run"]:
        click.echo("nothing keeps it from running")
    for reason in found["reasons"]:
        until = f", until {reason['until']}" if reason["until"] else ""
        click.echo(f"{reason['why']}: {reason['text']}{until}")


@task.command()
@filtered
@click.option("--limit", type=click.IntRange(1, 99_999), default=_SHOWN, show_default=True, help="Batches at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON of the service.")
@kind_option
@connection.options
def batches(kind: str, url: str | None, token_file: Any, *, as_json: bool, limit: int, **given: Any) -> None:
    """List batches, with the number of their tasks by status.

    Example: arcfleet task batches --kind retrieve --status FAILED
    """
    parameters = [*Filters(given, kind).parameters(of_batches=True), ("limit", str(limit))]
    with connected(url, token_file) as client:
        found = client.call("GET", f"/monitor/{kind}/batch", parameters).json()
    if as_json:
        connection.show_json(found)
        return
    if not found:
        click.echo("no batch matches", err=True)
    columns = [status.value.lower().replace(" ", "-") for status in Status]
    rows = connection.table("batch", "devices", *columns, "scheduled", "changed")
    for one in found:
        rows.add_row(
            Text(one["batchID"]),
            Text(", ".join(one["dicomDeviceName"])),
            *(
                Text(one["tasks"].get(column, ""), style=_STYLES.get(status, ""))
                for column, status in zip(columns, Status, strict=True)
            ),
            *(connection.short(one.get(f"{name}Range", [None])[-1]) for name in ("scheduledTime", "updatedTime")),
        )
    connection.show(rows)


def _path_of(task_id: str, place: dict[str, Any]) -> str:
    return f"{Filters(place, place['kind']).path}/{quote(task_id, safe='')}"


def _last_message(task: dict[str, Any]) -> str:
    # An error of an earlier attempt stays in the task; after a good end it is history.
    names = ("outcomeMessage", "errorMessage")
    well = Status(task["status"]) in (Status.COMPLETED, Status.WARNING)
    return next((task[name] for name in (names if well else reversed(names)) if task.get(name)), "")


def _where(task: dict[str, Any]) -> str:
    """Return the exporter, or the AEs between which something goes."""
    ends = [task.get(name) for name in ("RemoteAET", "PrimaryAET", "DestinationAET", "SecondaryAET")]
    return str(task.get("ExporterID") or " > ".join(end for end in ends if end))


def _show_tasks(found: list[dict[str, Any]]) -> None:
    if not found:
        click.echo("no task matches", err=True)
    rows = connection.table("id", "status", "device", "queue", "to", "study", "failed", "scheduled", "message")
    for one in found:
        status = one["status"]
        rows.add_row(
            one["taskID"],
            Text(status, style=_STYLES.get(Status(status), "")),
            *(Text(one.get(name, "")) for name in ("dicomDeviceName", "queue")),
            Text(_where(one)),
            Text(one.get("StudyInstanceUID") or one.get("QueryString", "")),
            one.get("failures", ""),
            connection.short(one["scheduledTime"]),
            Text(_last_message(one)),
        )
    connection.show(rows)
