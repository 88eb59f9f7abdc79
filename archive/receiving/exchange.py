"""One statement that indexes an object in a transaction of its own, while its file is made safe on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg
from sqlalchemy.exc import OperationalError

from archive import errors, ledger, overlapping
from archive.storage import turns

#: As PostgreSQL reads it.
TOUCH_AFTER = f"{ledger.TOUCH_AFTER.total_seconds()} seconds"


def run(statement: overlapping.Statement, values: Sequence[str | None], settle: Callable[[], None]) -> str | None:
    """Run a statement that divides by zero where it does not find what it is for.

    Args:
        statement: indexes an object.
        values: as PostgreSQL reads them.
        settle: makes the file safe on disk; runs while the database works, and before the commit.

    Returns:
        What it says; None: it is not for this object, or the disk is full or gone, and nothing was changed.

    Raises:
        StorageError: the disk refused otherwise; nothing was changed.
        OperationalError: the database is away; whether it has committed is not known.
    """
    try:
        return overlapping.run(statement, values, settle)
    except (errors.Unfit, psycopg.errors.DivisionByZero):
        return None
    except OperationalError as exc:
        if turns.is_race(exc):
            return None
        raise
