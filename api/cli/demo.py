"""`arcfleet demo`: the main job on real servers and real DICOM objects, each step verified."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from api.demo import house, story

#: Columns where no terminal says how many there are.
_WIDTH = 120


@click.command()
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="A new or empty folder; it is kept.")
@click.option("--keep", is_flag=True, help="Keep the temporary home.")
def demo(home: Path | None, *, keep: bool) -> None:
    """Show exports that fail, move to another device, survive a killed worker, and are cancelled.

    Runs a cluster of two devices in a temporary home on free ports, with the DICOM samples of pydicom, for about
    a minute; ends with 0 only if every step was verified in the database and on disk. Nothing that the
    environment names is touched, and nothing is left behind.

    Example: arcfleet demo
    """
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    story.tell(house.make(home, keep=keep), console)
