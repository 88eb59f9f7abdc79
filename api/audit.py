"""Who changed what: one row for each change that was made or failed on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from api.security import Caller
from archive import db
from archive.accounts import AuditEntry
from archive.errors import ArchiveError
from config.errors import ConfigError
from tasks.errors import TaskError

_log = structlog.get_logger()


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
    try:
        yield entry
    except (TaskError, ConfigError, ArchiveError):
        raise
    except db.OUTAGES as outage:
        _log.error("change failed", action=action, what=what, by=caller.name, error=db.first_line(outage))
        raise
    except Exception as error:
        write(caller, action, what, entry, outcome=f"{type(error).__name__}: {db.first_line(error)}")
        raise
    write(caller, action, what, entry)


def write(caller: Caller, action: str, what: str, entry: Entry, outcome: str | None = None) -> None:
    """Write a row of the audit table, and a line to the log."""
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
    _log.info(
        "changed", action=action, what=what, by=caller.name, host=caller.host, count=entry.count, failed=entry.failed
    )
