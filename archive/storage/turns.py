"""Transactions of writers that meet at the same rows: begun anew until each has had its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from archive import db, errors
from archive.overlapping import RACES

#: How often a transaction is begun anew because another process was at the same objects.
_TRIES = 10

T = TypeVar("T")


class Raced(Exception):
    """Another process changed what this transaction was about; it must begin anew."""


def in_turn(work: Callable[[Session], T], what: str) -> T:
    """Run the work in a transaction of its own, anew when another process was at the same rows.

    Raises:
        StorageError: others were faster each time; names `what`.
    """
    for _ in range(_TRIES):
        try:
            with db.transaction() as session:
                return work(session)
        except Raced:
            continue
        except OperationalError as exc:
            if not is_race(exc):
                raise
    raise errors.StorageError(f"{what} could not be indexed: {_TRIES} times others were at the same studies")


def is_race(exc: OperationalError) -> bool:
    """Tell whether the database gave up a transaction because of another one."""
    return isinstance(exc.orig, RACES)
