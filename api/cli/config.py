"""`arcfleet config`: look at the configuration, check it, change an attribute."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api import audit
from api.audit import Entry
from api.client import own_account
from archive import configuration, db
from config import changes, checks, entries, ldif_records, schema, settings, values
from config.device import Cluster, Device
from config.entries import Finding, Reading, Severity
from config.errors import ConfigError, SettingsError
from config.schedule import Schedule

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}


@click.group("config")
def config_group() -> None:
    """Look at the configuration, check it, or change an attribute of it.

    Example: arcfleet config check
    """


@config_group.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(ctx: click.Context, *, as_json: bool) -> None:
    """Say what is wrong or suspicious; exit code 1 if anything is wrong.

    Example: arcfleet config check
    """
    source = configuration.source()
    reading = _read()
    findings = checks.check(reading)
    if as_json:
        _print_json({"source": source.url, "findings": [_plain(finding) for finding in findings]})
    else:
        _print_findings(findings)
        click.echo(f"{source.url}: {_counted(reading, findings)}")
    ctx.exit(1 if any(checks.errors(findings)) else 0)


@config_group.command()
@click.argument("device", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(device: str | None, *, as_json: bool) -> None:
    """Show all devices, or all of one.

    Example: arcfleet config show archive-a
    """
    reading = _read()
    if device is None:
        devices = reading.cluster.devices
        if as_json:
            _print_json([_plain(devices[name]) for name in sorted(devices)])
        else:
            _print_devices(reading.cluster)
        return
    if device not in reading.cluster.devices:
        raise ConfigError(f"Device {device!r}: expected one of {', '.join(sorted(reading.cluster.devices))}")
    if as_json:
        _print_json(_plain(reading.cluster.devices[device]))
    else:
        _print_device(reading, reading.cluster.devices[device])


@config_group.command("set")
@click.argument("dn")
@click.argument("attribute")
@click.argument("new", nargs=-1, metavar="[VALUE]...")
@click.option("--remove", is_flag=True, help="Take the attribute away, so that its default applies.")
@click.option("--unknown", is_flag=True, help="Write also an attribute that arcfleet does not act on.")
def set_(dn: str, attribute: str, new: tuple[str, ...], *, remove: bool, unknown: bool) -> None:
    """Give an attribute of an entry other values, all of them at once; nothing is written if one is invalid.

    Example: arcfleet config set "dcmQueueName=Export,dicomDeviceName=archive-a,cn=Devices,cn=DICOM
    Configuration,dc=dcm4che,dc=org" dcmMaxTasksParallel 8
    """
    if remove == bool(new):
        raise click.UsageError(f"{attribute}: expected at least one VALUE, or --remove")
    source = configuration.source()
    before = source.entries()
    entry = changes.find(before, dn)
    planned = changes.plan(entry, attribute, new, unknown=unknown)
    given = settings.current()
    source.modify(dn, planned, changes.no_worse(before, given.devices, given.cluster))
    _audit(f"{entry.dn} {', '.join(planned)}")
    for name, held in planned.items():
        click.echo(f"{entry.dn}: {name}: {', '.join(held) or 'removed'}")


def _audit(what: str) -> None:
    try:
        audit.write(own_account(), "SetAttribute", what, Entry(count=1))
    except (SettingsError, *db.OUTAGES) as error:
        # The configuration can be changed without a database; then the shell's history has to do.
        click.echo(f"arcfleet: changed, but not audited: {db.first_line(error)}", err=True)


@config_group.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write into this new file.")
def export(output: Path | None) -> None:
    """Print all entries as LDIF.

    Example: arcfleet config export --output cluster.ldif
    """
    text = ldif_records.written(configuration.source().entries())
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="ascii") as file:
            file.write(text)
    except OSError as exc:
        raise ConfigError(f"{output}: expected a file that can be made: {exc.strerror}") from exc


def _read() -> Reading:
    given = settings.current()
    return entries.read(configuration.source().entries(), given.devices, given.cluster)


def _counted(reading: Reading, findings: list[Finding]) -> str:
    per_severity = [(severity, [f for f in findings if f.severity is severity]) for severity in Severity]
    counted = ", ".join(f"{severity.value}: {len(found)}" for severity, found in per_severity)
    return f"{len(reading.cluster.devices)} devices, {len(reading.cluster.ours)} of them ours; {counted}"


def _print_findings(findings: list[Finding]) -> None:
    if not findings:
        return
    table = _table("", "entry", "attribute", "value", "what")
    for finding in findings:
        table.add_row(
            Text(finding.severity, style=_STYLES[finding.severity]),
            # What follows cn=Devices is the same for all.
            *(Text(cell or "") for cell in (_below_devices(finding.dn), finding.attribute, finding.value)),
            Text(finding.message),
        )
    _console().print(table)


def _below_devices(dn: str) -> str:
    return re.split(r",\s*cn=Devices,", dn, maxsplit=1, flags=re.IGNORECASE)[0]


def _print_devices(cluster: Cluster) -> None:
    table = _table("device", "", "AE titles", "connections", "queues", "exporters", "description")
    for name, device in sorted(cluster.devices.items()):
        state = "ours" if device.is_ours else "foreign" if device.is_archive else "remote"
        connections = [f"{c.protocol} {c.hostname}:{c.port or '-'}" for c in device.connections.values()]
        cells = (
            name,
            state if device.installed else f"{state}, not installed",
            "\n".join(device.aes),
            "\n".join(connections),
            "\n".join(device.queues),
            "\n".join(device.exporters),
            device.description or "",
        )
        table.add_row(*(Text(cell) for cell in cells))
    _console().print(table)


def _print_device(reading: Reading, device: Device) -> None:
    """Print each entry with its DN, so that it can be given to `config set`."""
    for part in schema.PARTS:
        held = {device.name: device} if part.collection is None else getattr(device, part.collection)
        for key, value in held.items():
            click.echo(f"dn: {reading.dns[device.name, part.collection or '', key]}")
            for row in part.attrs:
                for text in _texts(row, getattr(value, row.field)):
                    click.echo(f"{row.attribute}: {text}")
            click.echo()


def _texts(row: schema.Attr, held: Any) -> list[str]:
    match row.holds:
        case schema.Holds.ONE:
            return [] if held is None else [row.codec.write(held)]
        case schema.Holds.PROPERTIES:
            return [row.codec.write(item) for item in held.items()]
        case schema.Holds.MANY | schema.Holds.CONNECTIONS:
            return [row.codec.write(item) for item in held]


def _plain(value: object) -> object:
    """Return what JSON can hold."""
    match value:
        case timedelta():
            return values.write_duration(value)
        case Schedule() | Path():
            return str(value)
        case Mapping():
            return {str(key): _plain(held) for key, held in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _console() -> Console:
    # Into a pipe as wide as it is, so that it can be searched.
    return Console(width=None if sys.stdout.isatty() else 1000)
