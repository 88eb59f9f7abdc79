"""`arcfleet doctor`: what is wrong with the cluster and this machine, and what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from rich.table import Table
from rich.text import Text

from api.cli import connection
from api.doctor import examination
from api.doctor.case import Wishes
from api.doctor.finding import Finding, Severity, counted, worst
from workers.version import VERSION

_STYLES = {Severity.OK: "green", Severity.NOTE: "dim", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}


@click.command()
@click.option("--device", help="Only this device; asks also all AEs of the directory whether they answer it.")
@click.option("--write-probe", is_flag=True, help="Write and remove a small file in each file system of this machine.")
@click.option("--remote/--no-remote", default=True, help="Ask the AEs that exporters send to (C-ECHO).")
@click.option("--problems", is_flag=True, help="Leave out what is as it should be.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(
    ctx: click.Context, device: str | None, *, write_probe: bool, remote: bool, problems: bool, as_json: bool
) -> None:
    """Look for what is wrong, and say what to do; changes nothing. Exit code 1 if there is an error.

    Example: arcfleet doctor --problems
    """
    connection.log_little()
    found = examination.examine(Wishes(device, remote=remote, write_probe=write_probe))
    shown = [one for one in found if not problems or one.severity is not Severity.OK]
    if as_json:
        connection.show_json(
            {
                "version": VERSION,
                "checkedAt": datetime.now(UTC).isoformat(timespec="seconds"),
                "worst": worst(found).value,
                "counts": {severity.value: number for severity, number in counted(found).items()},
                "findings": [dataclasses.asdict(one) for one in shown],
            }
        )
    else:
        _print(shown)
        click.echo(", ".join(f"{severity.value}: {number}" for severity, number in counted(found).items()))
    ctx.exit(1 if worst(found) is Severity.ERROR else 0)


def _print(findings: Sequence[Finding]) -> None:
    """Print what was found by subject; below it what was expected and what to do, where something is."""
    by_subject: dict[str, list[Finding]] = {}
    for one in findings:
        by_subject.setdefault(one.subject, []).append(one)
    rows = Table(box=None, pad_edge=False, show_header=False)
    rows.add_column(no_wrap=True)
    for _ in range(2):
        rows.add_column(overflow="fold")
    for subject, held in by_subject.items():
        rows.add_row("", Text(subject, style="bold"), "")
        for one in held:
            rows.add_row(Text(one.severity.value, style=_STYLES[one.severity]), Text(one.what), Text(_said(one)))
    if findings:
        connection.show(rows)


def _said(one: Finding) -> str:
    lines = (one.found, f"expected: {one.expected}" if one.expected else "", f"do: {one.do}" if one.do else "")
    return "\n".join(line for line in lines if line)
