"""Who changed what: one row for each change that was made or failed on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog
from sqlalchemy import delete, update

from api.security import Caller
from archive import db
from archive.accounts import AuditEntry
from archive.errors import ArchiveError
from config.errors import ConfigError
from tasks.errors import TaskError

_log = structlog.get_logger()

#: Outcome of a row whose change is being made, or was cut off.
UNFINISHED = "not finished"


@dataclass(slots=True)
class Entry:
    """What the block of `recorded` says of its change."""

    count: int | None = None
    failed: int | None = None


@contextmanager
def recorded(caller: Caller, action: str, what: str) -> Iterator[Entry]:
    """Record the change that the block makes.

    What is refused before anything was tried (an unknown task, a wrong parameter) is no change and leaves no
    row; what fails on the way does.
    """
    entry = Entry()
    row_id = begin(caller, action, what)
    try:
        yield entry
    except (TaskError, ConfigError, ArchiveError):
        with db.transaction() as session:
            session.execute(delete(AuditEntry).where(AuditEntry.id == row_id))
        raise
    except Exception as error:
        with suppress(*db.OUTAGES):  # then it stays unfinished
            complete(row_id, entry, f"{type(error).__name__}: {db.first_line(error)}")
        _log.error("change failed", action=action, what=what, by=caller.name, error=db.first_line(error))
        raise
    complete(row_id, entry, None)
    _tell(caller, action, what, entry)


def begin(caller: Caller, action: str, what: str) -> int:
    """Write the row of a change before it is made: one that is cut off has its row too. Returns the row's id."""
    row = AuditEntry(user=caller.name, host=caller.host, action=action, what=what, outcome=UNFINISHED)
    with db.transaction() as session:
        session.add(row)
    return row.id


def complete(row_id: int, entry: Entry, outcome: str | None) -> None:
    """Write to the row of a change how it ended; no outcome: it was made."""
    with db.transaction() as session:
        done = update(AuditEntry).where(AuditEntry.id == row_id)
        session.execute(done.values(count=entry.count, failed=entry.failed, outcome=outcome))


def write(caller: Caller, action: str, what: str, entry: Entry, outcome: str | None = None) -> None:
    """Write a row of the audit table about something that is done, and a line to the log."""
    with db.transaction() as session:
        session.add(
            AuditEntry(
                user=caller.name,
                host=caller.host,
                action=action,
                what=what,
                count=entry.count,
                failed=entry.failed,
                outcome=outcome,
            )
        )
    _tell(caller, action, what, entry)


def _tell(caller: Caller, action: str, what: str, entry: Entry) -> None:
    _log.info(
        "changed", action=action, what=what, by=caller.name, host=caller.host, count=entry.count, failed=entry.failed
    )
