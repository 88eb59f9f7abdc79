"""`arcfleet task cancel | reschedule | delete`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import click
from rich.text import Text

from api.cli import asking, connection, progress
from api.cli.connection import connected
from api.cli.task_options import Filters, filtered, kind_option
from api.client import AnswerError, Client

Parameters = list[tuple[str, str]]

_IDS = click.argument("ids", nargs=-1, metavar="[ID]...")
_DRY = click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
_YES = click.option("--yes", is_flag=True, help="Do not ask before many tasks are changed.")
_ALL = click.option("--all", "all_of_them", is_flag=True, help="All tasks, without any filter.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the JSON of the service.")


#: Option of a reschedule -> query parameter.
_NEW = {
    "at": "scheduledTime", "priority": "taskPriority", "new_queue": "newQueueName", "new_local_aet": "newLocalAET",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Change:
    """A change as the command line says it."""

    method: str
    kind: str
    #: Behind the kind or the task's id, for example `/cancel`.
    path: str
    #: What it does to a task, for example `canceled`.
    done: str
    parameters: Parameters


@click.command()
@_IDS
@filtered
@_ALL
@_DRY
@_YES
@_JSON
@kind_option
@connection.options
def cancel(kind: str, **given: Any) -> None:
    """Cancel tasks: those with these ids, or all that match.

    Example: arcfleet task cancel --device archive-a --status waiting
    """
    _run(_Change("POST", kind, "/cancel", "canceled", []), given)


@click.command()
@_IDS
@filtered
@click.option("--new-device", multiple=True, help="Device that shall run them; several take turns.")
@click.option("--new-exporter", help="Exporter that they shall use.")
@click.option("--at", help="Earliest start, yyyyMMddHHmmss.")
@click.option("--priority", help="0 to 9, higher first.")
@click.option("--new-queue", help="Queue that they shall be in; of retrieve tasks.")
@click.option("--new-local-aet", help="AE title that they shall work as.")
@click.option("--keep-scheduled-time", is_flag=True, help="Move only: keep scheduled time and failures.")
@_ALL
@_DRY
@_YES
@_JSON
@kind_option
@connection.options
def reschedule(kind: str, **given: Any) -> None:
    """Schedule tasks anew, on their own devices or on others: those with these ids, or all that match.

    Example: arcfleet task reschedule --status FAILED --new-device archive-b
    """
    parameters = [("newDeviceName", name) for name in given["new_device"]]
    parameters += [(name, given[option]) for option, name in _NEW.items() if given[option]]
    parameters += [("keepScheduledTime", "true")] if given["keep_scheduled_time"] else []
    exporter = f"/{quote(given['new_exporter'], safe='')}" if given["new_exporter"] else ""
    _run(_Change("POST", kind, f"/reschedule{exporter}", "rescheduled", parameters), given)


@click.command()
@_IDS
@filtered
@_ALL
@_DRY
@_YES
@_JSON
@kind_option
@connection.options
def delete(kind: str, **given: Any) -> None:
    """Delete tasks of any status: those with these ids, or all that match.

    Example: arcfleet task delete --status COMPLETED --updated -20260101
    """
    _run(_Change("DELETE", kind, "", "deleted", []), given)


def _run(change: _Change, given: dict[str, Any]) -> None:
    ids: tuple[str, ...] = given["ids"]
    chosen = Filters(given, change.kind).parameters()
    if ids and (chosen or given["all_of_them"]):
        hint = "; the new exporter is --new-exporter" if given["exporter"] and "reschedule" in change.path else ""
        raise click.UsageError(f"ids {', '.join(ids)} and filters: expected one of them{hint}")
    if not (ids or chosen or given["all_of_them"]):
        raise click.UsageError("expected ids of tasks, a filter such as --device or --status, or --all")
    with connected(given["url"], given["token_file"]) as client:
        if ids and not given["dry_run"]:
            click.get_current_context().exit(_each(client, change, ids))
        # Ids are filter enough; a cancel of all statuses has to be said.
        everything = [("all", "true")] if ids or given["all_of_them"] else []
        parameters = [*chosen, *(("taskID", one) for one in ids), *everything, *change.parameters]
        click.get_current_context().exit(_bulk(client, change, parameters, given))


def _each(client: Client, change: _Change, ids: tuple[str, ...]) -> int:
    """Change the named tasks one by one: each that cannot be is named, the others are changed."""
    failed = 0
    for one in ids:
        path = f"/monitor/{change.kind}/{quote(one, safe='')}{change.path}"
        try:
            client.call(change.method, path, change.parameters)
            click.echo(f"Task {one} is {change.done}")
        except AnswerError as error:
            if len(ids) == 1:
                raise
            failed += 1
            click.echo(f"arcfleet: Task {one}: {error}", err=True)
    return 1 if failed else 0


def _bulk(client: Client, change: _Change, parameters: Parameters, given: dict[str, Any]) -> int:
    path = Filters(given, change.kind).path + change.path
    if given["dry_run"] or not given["yes"]:
        planned = client.call(change.method, path, [*parameters, ("dryrun", "true")]).json()
        if given["dry_run"]:
            _show(planned, f"would be {change.done}", as_json=given["as_json"])
            return 0
        if planned["count"]:
            _show(planned, f"would be {change.done}", as_json=False, err=True)
            asking.ask()
    answer = client.call(change.method, path, parameters, progress.PREFER)
    done = progress.result_of(client, answer, f"tasks {change.done}")
    _show(done, change.done, as_json=given["as_json"])
    return 1 if done.get("failed") else 0


def _show(result: dict[str, Any], done: str, *, as_json: bool, err: bool = False) -> None:
    if as_json:
        connection.show_json(result)
        return
    where = ", ".join(f"{number} on {device}" for device, number in result.get("byDevice", {}).items())
    click.echo(f"{result.get('count', 0)} tasks {done}" + (f": {where}" if where else ""), err=err)
    if result.get("failed"):
        click.echo(f"{result['failed']} tasks refused", err=True)
        rows = connection.table("tasks", "why")
        for refusal in result.get("refusals", []):
            rows.add_row(str(refusal["count"]), Text(refusal["reason"]))
        connection.show(rows)
