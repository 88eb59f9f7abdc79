"""The question before many tasks are changed or made."""

from __future__ import annotations

import sys

import click


def ask() -> None:
    """Go on only if somebody agrees.

    Raises:
        UsageError: nobody is there to answer.
        Abort: the answer is no.
    """
    try:
        agreed = click.confirm("Go on?", err=True)
    except click.Abort as error:
        if sys.stdin.isatty():
            raise
        raise click.UsageError("nobody answers: say --yes, or --dry-run to see what would be done") from error
    if not agreed:
        raise click.Abort
