"""How far a long call is, on standard error of a terminal: a bar where the server tells it, else a clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from api.app import BASE
from api.client import Client

#: Asks the server to run a change of many tasks by itself, so that it can be followed. Source: RFC 7240 4.1
PREFER = {"Prefer": "respond-async"}

#: Seconds between two looks.
_LOOK_EVERY_S = 0.25


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show that the block goes on, and for how long."""
    with _shown(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
        bar.add_task(what, total=None)
        yield


def result_of(client: Client, answer: httpx.Response, doing: str) -> dict[str, Any]:
    """Return the result of a change of many tasks; one that runs by itself is followed to its end.

    Raises:
        ClickException: it ended before its end; the text says why, and what it has done.
    """
    said: dict[str, Any] = answer.json()
    place = answer.headers.get("location")
    if place is None or "/operations/" not in place:
        return said
    path = place.partition(BASE)[2] if BASE in place else place
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _shown(*columns) as bar:
        shown = bar.add_task(doing, total=said.get("total"))
        try:
            while said["state"] not in _ENDED:
                time.sleep(_LOOK_EVERY_S)
                said = client.call("GET", path).json()
                bar.update(shown, total=said.get("total"), completed=said["count"] + said["failed"])
        except KeyboardInterrupt:
            click.echo(f"it goes on as operation {said['operationID']}; to end it: POST {path}/cancel", err=True)
            raise
    if said["state"] != "done":
        why = said.get("errorMessage") or f"canceled by {said.get('stopAskedBy')}"
        raise click.ClickException(f"the operation ended after {said['count']} tasks: {why}")
    return said


_ENDED = frozenset({"done", "failed", "canceled"})


def _shown(*columns: Any) -> Progress:
    # Results go to standard output; what is no terminal gets nothing.
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
