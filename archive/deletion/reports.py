"""Health of the file systems as their owners report it: all that others know of a disk that they do not mount."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from archive import db, model
from archive.storage import health

#: After so long a report says nothing any more; its owner looks far more often.
COUNTS_FOR = timedelta(minutes=2)

#: A report from the future says as little: the clock of the database was set back since.
_IS_FRESH = model.FileSystemReport.checked_at.between(func.now() - COUNTS_FOR, func.now() + COUNTS_FOR)


def look(device_name: str) -> dict[str, str | None]:
    """Look at the file systems of a device, on a machine that mounts them, and report what is found.

    Returns the path of each with why it is not healthy, or None.
    """
    with db.transaction() as session:
        owned = session.scalars(select(model.FileSystem).where(model.FileSystem.owner_device == device_name)).all()
    found = {}
    for file_system in sorted(owned, key=lambda one: one.path):
        problem = health.problem_of(file_system)
        free, total = _space(Path(file_system.path)) if problem is None else (None, None)
        values = {"checked_at": func.now(), "problem": problem, "free_bytes": free, "total_bytes": total}
        statement = insert(model.FileSystemReport).values(file_system_id=file_system.id, **values)
        with db.transaction() as session:
            session.execute(statement.on_conflict_do_update(index_elements=["file_system_id"], set_=values))
        found[file_system.path] = problem
    return found


def problems(session: Session, file_systems: Iterable[model.FileSystem]) -> dict[int, str | None]:
    """Return by number why file systems are not known to be healthy, by the reports of their owners; None: they are."""
    wanted = {one.id: one for one in file_systems}
    table = model.FileSystemReport
    rows = session.execute(
        select(table.file_system_id, table.checked_at, table.problem, _IS_FRESH).where(table.file_system_id.in_(wanted))
    ).all()
    reported = {number: _said(wanted[number], at, problem, is_fresh) for number, at, problem, is_fresh in rows}
    return {number: reported.get(number, _unseen(one)) for number, one in wanted.items()}


def _said(file_system: model.FileSystem, at: datetime, problem: str | None, is_fresh: bool) -> str | None:
    if problem is not None or is_fresh:
        return problem
    return f"{_unseen(file_system)} since {at:%Y-%m-%d %H:%M:%S %Z}"


def _unseen(file_system: model.FileSystem) -> str:
    return (
        f"File system {file_system.path}: no worker of {file_system.owner_device} with --housekeeping "
        "has reported its health"
    )


def _space(root: Path) -> tuple[int | None, int | None]:
    try:
        found = os.statvfs(root)
    except OSError:
        return None, None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
