"""How far a long call is, on standard error of a terminal: a bar where the server tells it, else a clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from api.app import BASE
from api.client import AnswerError, Client

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

    Tasks of a foreign device are changed by an operation there; its place is a URL then, not a path of our server.

    Raises:
        ClickException: it ended before its end, or cannot be followed; the text says why, and what it has done.
    """
    said: dict[str, Any] = answer.json()
    place = answer.headers.get("location")
    if place is None or _OPERATIONS not in place:
        return said
    server, _, operation_id = place.partition(_OPERATIONS)
    is_elsewhere = bool(urlsplit(place).netloc)
    try:
        if is_elsewhere:
            with client.elsewhere(server) as other:
                said = _followed(other, said, operation_id, doing)
        else:
            said = _followed(client, said, operation_id, doing)
    except KeyboardInterrupt:
        how = f" --url {server.removesuffix(BASE)}" if is_elsewhere else ""
        click.echo(
            f"it goes on as operation {operation_id}; to end it: arcfleet operation cancel {operation_id}{how}",
            err=True,
        )
        raise
    except AnswerError as error:
        raise click.ClickException(f"it goes on as operation {place}, but cannot be followed: {error}") from error
    if said["state"] != "done":
        why = said.get("errorMessage") or f"canceled by {said.get('stopAskedBy')}"
        raise click.ClickException(f"the operation ended after {said['count']} tasks: {why}")
    return said


_OPERATIONS = "/monitor/operations/"
_ENDED = frozenset({"done", "failed", "canceled"})


def _followed(client: Client, said: dict[str, Any], operation_id: str, doing: str) -> dict[str, Any]:
    """Return what an operation says of itself at its end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _shown(*columns) as bar:
        shown = bar.add_task(doing, total=said.get("total"))
        while said["state"] not in _ENDED:
            time.sleep(_LOOK_EVERY_S)
            said = client.call("GET", f"{_OPERATIONS}{operation_id}").json()
            bar.update(shown, total=said.get("total"), completed=said["count"] + said["failed"])
    return said


def _shown(*columns: Any) -> Progress:
    # Results go to standard output; what is no terminal gets nothing.
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
