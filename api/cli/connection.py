"""How a command reaches the services: by `--url` over REST, else within this process."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import structlog
from rich.console import Console
from rich.table import Table

from api.client import AnswerError, Client
from archive import schema
from config import settings

#: Columns of a table that goes into a file or a pipe.
_WIDE = 250

F = TypeVar("F", bound=Callable[..., Any])


def options(command: F) -> F:
    """Add `--url` and `--token-file`."""
    command = click.option(
        "--token-file", type=click.File("r"), help="File with the token, - for standard input (ARCFLEET_TOKEN)."
    )(command)
    return click.option("--url", help="Server to ask; absent: work on this machine itself.")(command)


@contextmanager
def connected(url: str | None, token_file: Any) -> Iterator[Client]:
    """Open a client for the block; its errors become one line.

    Raises:
        ClickException: an answer is an error.
    """
    log_little()
    try:
        with _client(url, token_file) as client:
            yield client
    except AnswerError as error:
        raise click.ClickException(str(error)) from error


def table(*columns: str) -> Table:
    """Return an empty table."""
    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def show(what: Table | str) -> None:
    """Print a table or a text."""
    # What is no terminal is read by programs: no line is folded for them.
    Console(width=None if sys.stdout.isatty() else _WIDE).print(what, highlight=False)


def short(time: str | None) -> str:
    """Return a time of an answer for a table: to the second, in the zone that the service writes."""
    return "" if time is None else time[:19].replace("T", " ")


def show_json(value: object) -> None:
    """Print JSON for programs and people."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _client(url: str | None, token_file: Any) -> Client:
    if url is not None:
        secret = settings.current().token
        token = token_file.read().strip() if token_file else secret.get_secret_value() if secret else None
        return Client.remote(url, token)
    if token_file is not None:
        raise click.UsageError(f"--token-file {Path(token_file.name).name}: expected --url with it")
    schema.check(settings.current().database())
    return Client.local()


def log_little() -> None:
    """Log warnings and errors only, to standard error: what a command did is its output."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
