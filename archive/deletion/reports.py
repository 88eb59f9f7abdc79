"""Health of the file systems as their owners report it: all that others know of a disk that they do not mount."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from archive import db, errors, model
from archive.storage import answers, health

#: After so long a report says nothing any more; its owner looks far more often.
COUNTS_FOR = timedelta(minutes=2)

#: File systems that are looked at side by side.
_AT_ONCE = 16

#: A report from the future says as little: the clock of the database was set back since.
_IS_FRESH = model.FileSystemReport.checked_at.between(func.now() - COUNTS_FOR, func.now() + COUNTS_FOR)


def look(device_name: str) -> dict[str, str | None]:
    """Look at the file systems of a device, on a machine that mounts them, and report what is found.

    They are looked at side by side: one that hangs is reported as that, and holds up no other.

    Returns the path of each with why it is not healthy, or None.
    """
    with db.transaction() as session:
        owned = session.scalars(select(model.FileSystem).where(model.FileSystem.owner_device == device_name)).all()
    in_order = sorted(owned, key=lambda one: one.path)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look") as threads:
        states = list(threads.map(_state_of, in_order))
    found = {}
    for file_system, (problem, free, total) in zip(in_order, states, strict=True):
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


def _state_of(file_system: model.FileSystem) -> tuple[str | None, int | None, int | None]:
    """Return why a file system is not healthy, or None and its free and total bytes."""
    problem = health.problem_of(file_system)
    if problem is not None:
        return problem, None, None
    try:
        return None, *answers.ask(file_system.path, lambda: _space(file_system.path))
    except errors.NoAnswer as exc:
        return str(exc), None, None


def _space(root: str) -> tuple[int | None, int | None]:
    try:
        found = os.statvfs(root)
    except OSError:
        return None, None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
