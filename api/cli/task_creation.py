"""`arcfleet task export | retrieve | diff | verify`: make tasks, of one study, of a query, of the lines of a CSV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import click
import httpx

from api.cli import asking, connection, progress
from api.cli.connection import connected
from api.client import Client
from tasks.registry import kind_of

Parameters = list[tuple[str, str]]
F = TypeVar("F", bound=Callable[..., Any])

#: Option -> query parameter, of every kind.
_NAMES = {"device": "dicomDeviceName", "at": "scheduledTime", "priority": "taskPriority", "batch": "batchID"}

_AET = click.option("--aet", required=True, help="AE title of the device, or one that several share.")
_ENTITY = (
    click.option("--series", help="Series Instance UID."),
    click.option("--instance", help="SOP Instance UID, with --series."),
)
_COMMON = (
    click.option("--device", help="Which device of the AE title."),
    click.option("--at", help="Earliest start, yyyyMMddHHmmss in ARCFLEET_TIMEZONE."),
    click.option("--priority", help="0 to 9, higher first."),
    click.option("--batch", help="Batch that the tasks belong to."),
    click.option("--allow-duplicate", is_flag=True, help="Also if an equal task is there."),
    click.option("--idempotency-key", help="A repeated command with the same key makes no second task."),
    click.option(
        "--match", metavar="KEY=VALUE", multiple=True, help="All that have it, for example StudyDate=20260101-."
    ),
    click.option("--all", "all_of_them", is_flag=True, help="All studies, without any --match."),
    click.option("--from-csv", type=click.File("rb"), help="One for each line of this file, - for standard input."),
    click.option("--column", type=click.IntRange(1), default=1, show_default=True, help="Column of the study."),
    click.option("--semicolon", is_flag=True, help="Semicolons separate the columns, not commas."),
    click.option("--dry-run", is_flag=True, help="Say how many would be made; make none."),
    click.option("--yes", is_flag=True, help="Do not ask before many tasks are made."),
    click.option("--json", "as_json", is_flag=True, help="Print the JSON of the service."),
    connection.options,
)
_LEVELS = (
    click.option("--level", type=click.Choice(["studies", "series", "instances"]), default="studies",
                 show_default=True, help="What --match makes tasks of."),
    click.option("--series-column", type=click.IntRange(1), help="Column of the series: a task for each series."),
)  # fmt: skip
_WAIT = click.option("--wait", is_flag=True, help="Wait for the end, and say what became of it.")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is asked for: where the service is, and what it is told."""

    #: Before and behind `/studies/...`.
    prefix: str
    suffix: str
    parameters: Parameters
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


def _options(*more: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed([one for group in more for one in group]):
            command = option(command)
        return command

    return add


@click.command()
@click.argument("names", nargs=-1, metavar="[STUDY] EXPORTER")
@_AET
@_options(_ENTITY, _LEVELS, _COMMON)
def export(names: tuple[str, ...], **given: Any) -> None:
    """Schedule the export of a study, series or instance; of all that match; of the lines of a CSV.

    Example: arcfleet task export 1.2.840.1 ToPACS --aet ARCHIVE_A
    """
    study, exporter = _split(names, ("EXPORTER",))
    wish = _Wish(f"/aets/{_quoted(given['aet'])}/rs", f"/export/{_quoted(exporter[0])}", [])
    _make(wish, study, given)


def _usual_queue() -> str:
    return kind_of("RETRIEVE").queue


@click.command()
@click.argument("names", nargs=-1, metavar="[STUDY] FROM TO")
@_AET
@click.option("--find", help="AE title that finds what matches; absent: FROM.")
@click.option("--queue", default=_usual_queue, help="Queue of the tasks; absent: that of all retrieves.")
@_options(_ENTITY, _COMMON, (_WAIT,))
def retrieve(names: tuple[str, ...], **given: Any) -> None:
    """Let another archive send a study, series or instance; all that it finds; the lines of a CSV.

    Example: arcfleet task retrieve 1.2.840.1 PACS ARCHIVE_A --aet ARCHIVE_A
    """
    study, (sender, receiver) = _split(names, ("FROM", "TO"))
    found = f"/query:{_quoted(given['find'])}" if given["find"] and study is None else ""
    prefix = f"/aets/{_quoted(given['aet'])}/dimse/{_quoted(sender)}{found}"
    queue = [] if given["wait"] and study else [("dcmQueueName", given["queue"])]
    _make(_Wish(prefix, f"/export/dicom:{_quoted(receiver)}", queue), study, given)


@click.command()
@click.argument("names", nargs=-1, metavar="[STUDY]")
@_AET
@click.option("--policy", help="How files are looked at, for example OBJECT_CHECKSUM.")
@click.option("--update/--no-update", default=None, help="Note in the index what was found.")
@click.option("--storage", multiple=True, help="Only files of this storage.")
@_options(_ENTITY, _LEVELS, _COMMON, (_WAIT,))
def verify(names: tuple[str, ...], **given: Any) -> None:
    """Hold files of a study, series or instance against the index; of all that match; of the lines of a CSV.

    Example: arcfleet task verify 1.2.840.1 --aet ARCHIVE_A --policy OBJECT_CHECKSUM --wait
    """
    study, _ = _split(names, ())
    parameters = [("storageVerificationStorageID", one) for one in given["storage"]]
    parameters += [("storageVerificationPolicy", given["policy"])] if given["policy"] else []
    if given["update"] is not None:
        parameters.append(("storageVerificationUpdateLocationStatus", str(given["update"]).lower()))
    headers = {} if given["wait"] else {"Prefer": "wait=0"}
    _make(_Wish(f"/aets/{_quoted(given['aet'])}/rs", "/stgver", parameters, headers), study, given)


@click.command()
@click.argument("names", nargs=-1, metavar="PRIMARY SECONDARY")
@_AET
@click.option(
    "--compare", multiple=True, help="Attribute that is compared, by keyword or tag; or the ID of one attribute set."
)
@click.option("--missing", is_flag=True, help="Count studies that the secondary lacks.")
@click.option("--no-different", is_flag=True, help="Do not count studies that differ.")
@click.option("--split", metavar="DURATION", help="A task for each part of the range of StudyDate, for example P7D.")
@_options(_COMMON, (_WAIT,))
def diff(names: tuple[str, ...], **given: Any) -> None:
    """Compare the studies of two archives: those that match, or those of the lines of a CSV.

    Example: arcfleet task diff PACS OLD_PACS --aet ARCHIVE_A --match StudyDate=20260101- --missing
    """
    study, (primary, secondary) = _split(names, ("PRIMARY", "SECONDARY"))
    if study is not None:
        raise click.UsageError(f"{study}: expected --match StudyInstanceUID={study}")
    prefix = f"/aets/{_quoted(given['aet'])}/dimse/{_quoted(primary)}/diff/{_quoted(secondary)}"
    parameters = [("comparefield", one) for one in given["compare"]]
    parameters += [("missing", "true")] if given["missing"] else []
    parameters += [("different", "false")] if given["no_different"] else []
    if given["from_csv"] is not None:
        _make(_Wish(prefix, "", parameters), None, given)
        return
    if given["dry_run"]:
        raise click.UsageError("--dry-run: expected --from-csv with it; one comparison is one task")
    queued = [] if given["wait"] else [("queue", "true")]
    queued += [("SplitStudyDateRange", given["split"])] if given["split"] else []
    wish = _Wish(prefix + ("/studies/count" if given["wait"] else "/studies"), "", [*parameters, *queued], method="GET")
    with connected(given["url"], given["token_file"]) as client:
        _say_one(_send(client, wish, "", [*wish.parameters, *_matches(given), *_common(given)], given), given)


def _split(names: tuple[str, ...], needed: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return the study, if it is named, and the names that are needed."""
    if not len(needed) <= len(names) <= len(needed) + 1:
        raise click.UsageError(f"{' '.join(names) or 'nothing'}: expected [STUDY] {' '.join(needed)}".rstrip())
    return (names[0], names[1:]) if len(names) > len(needed) else (None, names)


def _make(wish: _Wish, study: str | None, given: dict[str, Any]) -> None:
    is_many = bool(given["match"] or given["all_of_them"] or given["from_csv"])
    if (study is None) != is_many or (given["match"] and given["from_csv"]):
        raise click.UsageError("expected one of STUDY, --match (or --all), --from-csv")
    with connected(given["url"], given["token_file"]) as client:
        if study is not None:
            if given["dry_run"]:
                raise click.UsageError("--dry-run: expected --match or --from-csv with it; one study is one task")
            path = _entity(study, given)
            _say_one(_send(client, wish, path, [*wish.parameters, *_common(given)], given), given)
        else:
            _many(client, wish, given)


def _many(client: Client, wish: _Wish, given: dict[str, Any]) -> None:
    parameters = [*wish.parameters, *_matches(given), *_common(given)]
    file, series = given["from_csv"], given.get("series_column")
    content = None if file is None else file.read()
    columns = f"/studies/csv:{given['column']}" + (f"/series/csv:{series}" if series else "")
    path = f"/{given.get('level', 'studies')}" if content is None else columns
    if given["dry_run"] or not given["yes"]:
        planned = _send(client, wish, path, [*parameters, ("dryrun", "true")], given, content).json()
        if given["dry_run"]:
            _say_planned(planned, given, err=False)
            return
        if planned["count"]:
            _say_planned(planned, {**given, "as_json": False}, err=True)
            asking.ask()
    with progress.working("making tasks"):
        answer = _send(client, wish, path, parameters, given, content)
    _warn(answer)
    count = 0 if answer.status_code == HTTPStatus.NO_CONTENT else answer.json()["count"]
    if given["as_json"]:
        connection.show_json({"count": count})
    else:
        click.echo(f"{count} tasks made")


def _send(
    client: Client, wish: _Wish, path: str, parameters: Parameters, given: dict[str, Any], content: bytes | None = None
) -> httpx.Response:  # fmt: skip
    headers = dict(wish.headers)
    if given["idempotency_key"]:
        headers["Idempotency-Key"] = given["idempotency_key"]
    if content is not None:
        headers["Content-Type"] = "text/csv;delimiter=semicolon" if given["semicolon"] else "text/csv"
    return client.call(wish.method, wish.prefix + path + wish.suffix, parameters, headers, content=content)


def _entity(study: str, given: dict[str, Any]) -> str:
    if given["instance"] and not given["series"]:
        raise click.UsageError("--instance: expected --series with it")
    levels = (("studies", study), ("series", given["series"]), ("instances", given["instance"]))
    return "".join(f"/{level}/{_quoted(uid)}" for level, uid in levels if uid)


def _matches(given: dict[str, Any]) -> Parameters:
    found = []
    for one in given["match"]:
        key, equals, value = one.partition("=")
        if not key or not equals:
            raise click.UsageError(f"--match {one}: expected KEY=VALUE, for example StudyDate=20260101-")
        found.append((key, value))
    return [*found, *([("all", "true")] if given["all_of_them"] else [])]


def _common(given: dict[str, Any]) -> Parameters:
    found = [(name, str(given[option])) for option, name in _NAMES.items() if given[option] is not None]
    return [*found, *([("allowDuplicate", "true")] if given["allow_duplicate"] else [])]


def _say_one(answer: httpx.Response, given: dict[str, Any]) -> None:
    _warn(answer)
    said = answer.json() if answer.content else {}
    if given["as_json"]:
        connection.show_json(said)
    elif "status" in said and "dicomDeviceName" in said:
        click.echo(f"Task {said['taskID']} is {said['status']} on {said['dicomDeviceName']}")
    elif said:
        number = said.pop("taskID", "")
        click.echo(f"Task {number}: {', '.join(f'{name} {value}' for name, value in said.items())}")
    else:
        click.echo("the task is made: arcfleet task list --kind diff")


def _say_planned(planned: dict[str, Any], given: dict[str, Any], *, err: bool) -> None:
    if given["as_json"]:
        connection.show_json(planned)
        return
    where = ", ".join(f"{number} on {device}" for device, number in planned["byDevice"].items())
    there = f"; {planned['existing']} equal ones are there already" if planned["existing"] else ""
    click.echo(f"{planned['count']} tasks would be made{f': {where}' if where else ''}{there}", err=err)


def _warn(answer: httpx.Response) -> None:
    for warning in answer.headers.get_list("warning"):
        click.echo(warning, err=True)


def _quoted(text: str) -> str:
    return quote(text, safe="")
