"""Deletion: marks whose task is gone, deletions that do not come to their end, files that stay on disk."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import func, select

from api.doctor.case import Case
from api.doctor.file_systems import owned
from api.doctor.finding import Finding, Subject
from api.words import size, some, span
from archive import db, model
from tasks import slots
from tasks.pins import TaskSide
from tasks.slots import NOW

SAY = Subject("deletion")

#: How long anything may take that a housekeeping job does every ten minutes or more often.
_LATE = timedelta(minutes=30)
#: Marks that are looked at, oldest first.
_MOST_MARKS = 1000

_SEE = "see the worker with --housekeeping of its device"


def marks(case: Case) -> Iterator[Finding]:
    """See that each mark has a task that may still delete, and how much is to go."""
    ledger = model.StudyOnFileSystem
    paths = {row.id: row for row in owned(case.devices())}
    with db.transaction() as session:
        now = slots.database_time(session)
        rows = session.execute(
            select(ledger.mark_task_id, ledger.file_system_id, ledger.marked_at, ledger.mark_bytes)
            .where(ledger.marked_at.is_not(None), ledger.file_system_id.in_(paths))
            .order_by(ledger.marked_at).limit(_MOST_MARKS)
        ).all()  # fmt: skip
        standing = TaskSide().marks(session, {row.mark_task_id for row in rows if row.mark_task_id is not None})
    stale = [row for row in rows if row.mark_task_id not in standing and now - row.marked_at > _LATE]
    if stale:
        where = some(sorted({paths[row.file_system_id].path for row in stale}))
        found = f"{len(stale)} without a task that deletes, on {where}"
        yield SAY.warning("marks", found, "none for long: they are ended by themselves", _SEE)
    pending = sum(row.mark_bytes or 0 for row in rows)
    more = " at least" if len(rows) == _MOST_MARKS else ""
    yield SAY.ok("to be deleted", f"{len(rows)} studies, {size(pending)}{more}")


def unfinished(case: Case) -> Iterator[Finding]:
    """Look for deletions that have begun, and whose files are still on disk."""
    table = model.StudyDeletion
    wanted = [device.name for device in case.devices()]
    with db.transaction() as session:
        now = slots.database_time(session)
        rows = session.execute(
            select(table.device, func.count(), func.sum(table.size_bytes), func.min(table.deleted_at))
            .where(table.unlinked_at.is_(None), table.deleted_at < now - _LATE, table.device.in_(wanted))
            .group_by(table.device)
        ).all()
    for device, number, size_bytes, since in rows:
        found = f"{number} studies ({size(int(size_bytes))}), the first since {span((now - since).total_seconds())}"
        yield SAY.warning(f"unfinished on {device}", found, "files that leave the disk", _SEE, device=device)
    if not rows:
        yield SAY.ok("unfinished", "no deletion that began is still to be finished")


def unlink_list(case: Case) -> Iterator[Finding]:
    """Look for files that should have left their disk long ago, and for those that could not."""
    entry = model.Unlink
    paths = {row.id: row for row in owned(case.devices())}
    with db.transaction() as session:
        rows = session.execute(
            select(
                entry.file_system_id, func.count().label("entries"),
                func.coalesce(func.sum(entry.size_bytes), 0).label("size_bytes"),
                func.count().filter(entry.next_attempt_at < NOW - _LATE).label("late"),
                func.count().filter(entry.attempts > 0).label("failed"),
                func.max(entry.error).label("error"), func.min(entry.created_at).label("oldest"),
            ).where(entry.file_system_id.in_(paths)).group_by(entry.file_system_id)
        ).all()  # fmt: skip
    for one in rows:
        row = paths[one.file_system_id]
        what = f"unlink list of {row.path}"
        said = f"{one.entries} files ({size(int(one.size_bytes))}), the oldest of {one.oldest:%Y-%m-%d %H:%M:%S %Z}"
        if one.failed:
            found = f"{said}; {one.failed} could not be removed: {one.error}"
            yield SAY.warning(what, found, "none that fails", _SEE, device=row.owner_device)
        elif one.late:
            found = f"{said}; {one.late} of them due for more than {span(_LATE.total_seconds())}"
            yield SAY.warning(what, found, "none that is late", _SEE, device=row.owner_device)
        else:
            yield SAY.ok(what, said, device=row.owner_device)
    if not rows:
        yield SAY.ok("unlink list", "empty")
