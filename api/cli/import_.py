"""`arcfleet import`: store and index the DICOM files of a folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api import audit
from api.audit import Entry
from api.client import own_account
from archive import configuration, errors
from archive.storage import importing
from config import settings
from config.device import Cluster, Device
from tasks import stored

#: Names listed of each sort of file that was not stored; `--json` has all of them.
_SHOWN = 20


@click.command("import")
@click.option("--device", "device_name", required=True, help="The device that stores the files.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.argument("folder", type=click.Path(path_type=Path))
def import_(device_name: str, folder: Path, as_json: bool) -> int:
    """Store and index every DICOM object below FOLDER; whatever is none is counted and named.

    Ends with 0 if every object found is now in the archive, also if it was there before.

    Example: arcfleet import --device archive-a /data/incoming
    """
    device = _device(configuration.current(), device_name)
    result = _run(device, folder, settings.current().home)
    counts = Entry(count=result.stored, failed=len(result.failed))
    audit.write(own_account(), "Import", f"{folder} on {device.name}", counts)
    if result.stored:
        stored.series_stored(device.name)
    if as_json:
        click.echo(_json(result))
    else:
        _print(result, device.name)
    if result.stopped is not None:
        raise errors.StorageError(f"import stopped: {result.stopped}")
    return 0 if result.is_complete else 1


def _device(cluster: Cluster, name: str) -> Device:
    """Return one of our devices."""
    device = cluster.devices.get(name)
    if device is not None and device.is_ours:
        return device
    found = "is in the configuration, but not run by arcfleet" if device else "is not in the configuration"
    known = ", ".join(cluster.ours) or "none"
    raise errors.NotConfigured(f"Device {name} {found}; expected one of: {known}")


def _run(device: Device, folder: Path, home: Path) -> importing.ImportResult:
    """Import with a progress bar on the error output, where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Importing", total=None)

        def show(done: int, found: int) -> None:
            bar.update(task, completed=done, total=found)

        return importing.import_folder(device, folder, home=home, progress=show)


def _json(result: importing.ImportResult) -> str:
    content = dataclasses.asdict(result)
    content["studies"] = sorted(result.studies)
    for name in ("refused", "failed"):
        content[name] = [{"path": path, "reason": reason} for path, reason in content[name]]
    return json.dumps(content, indent=2)


def _print(result: importing.ImportResult, device_name: str) -> None:
    console = Console(soft_wrap=True)
    table = Table("", "files", title=f"Import to {escape(device_name)}", title_justify="left")
    table.columns[1].justify = "right"
    table.add_row("stored", str(result.stored))
    table.add_row("there already", str(len(result.differing) + result.duplicates))
    table.add_row("of these with other content", str(len(result.differing)))
    table.add_row("no storable DICOM objects", str(len(result.refused)))
    table.add_row("failed", str(len(result.failed)))
    console.print(table)
    console.print(f"{len(result.studies)} studies, {result.bytes / 1e6:.1f} MB")
    _list(console, "Other content than the object in the archive, which is kept", result.differing)
    _list(console, "No storable DICOM objects", [f"{path}: {reason}" for path, reason in result.refused])
    _list(console, "Failed", [f"{path}: {reason}" for path, reason in result.failed])


def _list(console: Console, title: str, lines: list[str]) -> None:
    if not lines:
        return
    console.print(f"\n{title}:")
    for line in lines[:_SHOWN]:
        console.print(f"  {line}", markup=False, highlight=False)
    if len(lines) > _SHOWN:
        console.print(f"  ... and {len(lines) - _SHOWN} more (--json lists all)")
