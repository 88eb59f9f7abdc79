"""When a task that is asked for is there already: an equal one waits, and is answered instead of a second one.

Source: dcm4chee-arc-light, which reuses equal tasks of RETRIEVE and STGVER that wait or run; ours is the same for
EXPORT tasks that wait. A comparison is made as often as somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from archive.query import Entity
from tasks import store, waited
from tasks.record import NewTask, Task, TaskView
from tasks.state import WAITING, Status

#: Kinds of which an equal task that runs counts too.
_RUNNING_TOO = frozenset({"RETRIEVE", "STGVER"})
#: Kinds of which no task equals another.
_NEVER = frozenset({"DIFF"})
#: Kinds whose parameters are part of what they do.
_BY_PARAMETERS = frozenset({"STGVER"})
#: Kinds whose equal task starts earlier if that is asked for.
_HASTENED = frozenset({"RETRIEVE"})


def entity_of(task: NewTask | TaskView) -> Entity | None:
    """Return what a task is about; None: it is about no study."""
    return None if task.study_uid is None else Entity(task.study_uid, task.series_uid, task.sop_uid)


def one(session: Session, new: NewTask, devices: Sequence[str]) -> TaskView | None:
    """Return the task that equals this new one; None: there is none. Locks the entity.

    Args:
        session: the transaction.
        new: what is asked for.
        devices: on which of them a task counts as equal.
    """
    # Two requests for the same thing at once wait for each other here, so that one task is made. Those for many
    # things lock out all others of their sort, one by one would be thousands of locks.
    _lock(session, "pg_advisory_xact_lock_shared", _sort(new), 4)
    _lock(session, "pg_advisory_xact_lock", f"{_sort(new)}/{new.study_uid}/{new.series_uid}/{new.sop_uid}", 1)
    entity = entity_of(new)
    found = _found(session, [new], devices)
    if found:
        _adapt(session, found, new)
        found = _found(session, [new], devices)
    return None if entity is None else found.get(entity)


def many(
    session: Session, new: Sequence[NewTask], devices: Sequence[str], *, dry_run: bool = False
) -> dict[Entity, TaskView]:
    """Return the tasks that equal these new ones, which differ in nothing but entity and device. Locks their sort."""
    if not new:
        return {}
    if not dry_run:
        _lock(session, "pg_advisory_xact_lock", _sort(new[0]), 4)
    found = _found(session, new, devices)
    if found and not dry_run:
        _adapt(session, found, new[0])
    return found


def _adapt(session: Session, found: Mapping[Entity, TaskView], new: NewTask) -> None:
    """Let tasks that are there do for this new one too: as early, and tried as often."""
    task_ids = [view.id for view in found.values()]
    if new.kind in _HASTENED:
        store.hasten(session, task_ids, new.scheduled_time)
    if waited.UNTIL not in new.params:
        store.wait_no_more(session, task_ids)


def _found(session: Session, new: Sequence[NewTask], devices: Sequence[str]) -> dict[Entity, TaskView]:
    first = new[0]
    if first.kind in _NEVER:
        return {}
    statuses = [*WAITING, *([Status.IN_PROCESS] if first.kind in _RUNNING_TOO else [])]
    wanted = {entity for task in new if (entity := entity_of(task)) is not None}
    rows = session.execute(
        select(Task.__table__)
        .where(
            Task.study_uid.in_({entity.study_uid for entity in wanted}),
            Task.kind == first.kind,
            Task.device.in_(devices),
            Task.status.in_([status.value for status in statuses]),
            Task.exporter_id.is_not_distinct_from(first.exporter_id),
            Task.remote_aet.is_not_distinct_from(first.remote_aet),
            Task.destination_aet.is_not_distinct_from(first.destination_aet),
        )
        .order_by(Task.created_time.desc(), Task.id.desc())
    )
    views = [TaskView.of(row) for row in rows.mappings()]
    if first.kind in _BY_PARAMETERS:
        views = [view for view in views if waited.what(view.params) == waited.what(first.params)]
    # The oldest of several stays.
    return {entity: view for view in views if (entity := entity_of(view)) in wanted and entity is not None}


def _sort(new: NewTask) -> str:
    return "/".join(str(part) for part in (new.kind, new.exporter_id, new.remote_aet, new.destination_aet))


def _lock(session: Session, how: str, key: str, space: int) -> None:
    session.execute(text(f"SELECT {how}(hashtextextended(:key, :space))"), {"key": key, "space": space})
