"""`arcfleet task failures | differences`: what went wrong, by cause, and what comparisons found."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click
from rich.text import Text

from api.cli import connection
from api.cli.connection import connected
from api.cli.task_options import Filters, filtered, id_option, kind_option

_LIMIT = click.IntRange(1, 99_999)
_MOST_CAUSES = 1000

#: Of a study in DICOM JSON (PS3.18 F.2).
_STUDY_UID, _STUDY_DATE = "0020000D", "00080020"
_ORIGINAL, _MODIFIED = "04000561", "04000550"


@click.command()
@id_option
@filtered
@click.option("--limit", type=click.IntRange(1, _MOST_CAUSES), help="Causes at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON of the service.")
@kind_option
@connection.options
def failures(kind: str, url: str | None, token_file: Any, *, limit: int | None, as_json: bool, **given: Any) -> None:
    """Count what went wrong by cause: message and destination, the commonest first.

    Example: arcfleet task failures --device archive-a --updated 20260820-
    """
    chosen = Filters(given, kind)
    parameters = [*chosen.parameters(), *([("limit", str(limit))] if limit else [])]
    with connected(url, token_file) as client:
        found = client.call("GET", f"{chosen.path}/failures", parameters).json()
    if as_json:
        connection.show_json(found)
        return
    if not found:
        click.echo("no task matches that failed", err=True)
    rows = connection.table("tasks", "status", "destination", "newest", "of task", "message")
    for one in found:
        rows.add_row(
            str(one["count"]),
            one["status"],
            Text(one["destination"] or ""),
            connection.short(one["newestTime"]),
            str(one["newestTaskID"]),
            Text(one["message"] or ""),
        )
    connection.show(rows)


@click.command()
@click.argument("task_id", metavar="[ID]", required=False)
@click.option("--batch", help="Of all comparisons of a batch instead.")
@click.option("--limit", type=_LIMIT, help="Studies at most.")
@click.option("--offset", type=click.IntRange(0, 99_999), help="Studies to skip.")
@click.option("--json", "as_json", is_flag=True, help="Print the DICOM JSON of the service.")
@connection.options
def differences(task_id: str | None, batch: str | None, url: str | None, token_file: Any, **given: Any) -> None:
    """List the studies that a comparison found missing or different.

    Example: arcfleet task differences 42
    """
    if (task_id is None) == (batch is None):
        raise click.UsageError("expected the id of a comparison, or --batch")
    place = quote(task_id, safe="") if task_id is not None else f"batch/{quote(batch or '', safe='')}"
    parameters = [(name, str(given[name])) for name in ("limit", "offset") if given[name] is not None]
    with connected(url, token_file) as client:
        answer = client.call("GET", f"/monitor/diff/{place}/studies", parameters)
    found = answer.json() if answer.content else []
    if given["as_json"]:
        connection.show_json(found)
        return
    if not found:
        click.echo("nothing was found missing or different", err=True)
    rows = connection.table("study", "date", "differs in")
    for one in found:
        rows.add_row(Text(_value(one, _STUDY_UID)), Text(_value(one, _STUDY_DATE)), Text(", ".join(_tags(one))))
    connection.show(rows)


def _value(dataset: dict[str, Any], tag: str) -> str:
    return str((dataset.get(tag, {}).get("Value") or [""])[0])


def _tags(dataset: dict[str, Any]) -> list[str]:
    """Return the tags of what the secondary AE says otherwise; of a missing study the numbers of its parts."""
    originals = dataset.get(_ORIGINAL, {}).get("Value", [])
    modified = [one for original in originals for one in original.get(_MODIFIED, {}).get("Value", [])]
    return [f"({tag[:4]},{tag[4:]})" for one in modified for tag in sorted(one)]
