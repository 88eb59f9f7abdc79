"""`arcfleet task cancel | reschedule | delete`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import click
from rich.text import Text

from api.cli import asking, connection, progress
from api.cli.connection import connected
from api.cli.task_options import Filters, filtered, kind_option
from api.client import AnswerError, Client

Parameters = list[tuple[str, str]]
#: Method and path.
Service = tuple[str, str]

_DRY_RUN = ("dryrun", "true")

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


@dataclass(frozen=True, slots=True)
class Manner:
    """How a change of many tasks is made and told."""

    #: What it does to a task, for example `canceled`.
    done: str
    dry_run: bool
    yes: bool
    as_json: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], done: str) -> Manner:
        """Return what the options say."""
        return cls(done, given["dry_run"], given["yes"], given["as_json"])


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
            place = Filters(given, change.kind).path
            click.get_current_context().exit(_each(client, change, place, ids, as_json=given["as_json"]))
        # Ids are filter enough; a cancel of all statuses has to be said.
        everything = [("all", "true")] if ids or given["all_of_them"] else []
        parameters = [*chosen, *(("taskID", one) for one in ids), *everything, *change.parameters]
        service = (change.method, Filters(given, change.kind).path + change.path)
        click.get_current_context().exit(change_many(client, service, parameters, Manner.of(given, change.done)))


def _each(client: Client, change: _Change, place: str, ids: tuple[str, ...], *, as_json: bool) -> int:
    """Change the named tasks one by one: each that cannot be is named, the others are changed."""
    refused: list[str] = []
    for one in ids:
        try:
            client.call(change.method, f"{place}/{quote(one, safe='')}{change.path}", change.parameters)
            if not as_json:
                click.echo(f"Task {one} is {change.done}")
        except AnswerError as error:
            if len(ids) == 1:
                raise
            refused.append(f"Task {one}: {error}")
            if not as_json:
                click.echo(f"arcfleet: {refused[-1]}", err=True)
    if as_json:
        # As many that match are answered.
        refusals = [{"reason": reason, "count": 1} for reason in refused]
        connection.show_json({"count": len(ids) - len(refused), "failed": len(refused), "refusals": refusals})
    return 1 if refused else 0


def change_many(client: Client, service: Service, parameters: Parameters, manner: Manner) -> int:
    """Change all tasks that match, after a look and a question, and return the exit code.

    Args:
        client: who is asked.
        service: method and path.
        parameters: of the query.
        manner: how it is done.
    """
    if manner.dry_run or not manner.yes:
        planned = _planned(client, service, parameters, is_wanted=manner.dry_run)
        if manner.dry_run:
            _show(planned, f"would be {manner.done}", as_json=manner.as_json)
            return 0
        if planned.get("count"):
            _show(planned, f"would be {manner.done}", as_json=False, err=True)
        if planned.get("count") or not planned:
            asking.ask()
    answer = client.call(*service, parameters, progress.PREFER)
    done = progress.result_of(client, answer, f"tasks {manner.done}")
    _show(done, manner.done, as_json=manner.as_json)
    return 1 if done.get("failed") else 0


def _planned(client: Client, service: Service, parameters: Parameters, *, is_wanted: bool) -> dict[str, Any]:
    """Return what would be done; nothing where only a device that is not arcfleet knows, and that was not the wish."""
    try:
        found: dict[str, Any] = client.call(*service, [*parameters, _DRY_RUN]).json()
    except AnswerError as error:
        if (
            is_wanted
            or error.http_status != HTTPStatus.CONFLICT
            or not str(error).startswith(f"{'='.join(_DRY_RUN)}: ")
        ):
            raise
        click.echo(f"what would be done cannot be told: {error}", err=True)
        return {}
    return found


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
