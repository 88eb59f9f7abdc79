"""What a change of tasks does to the marks of studies: a mark lives and dies with its DELETE_STUDY task.

The task row is locked before the ledger row. A deletion that has begun holds the ledger row until its commit, so
that who changes its task waits, and then finds the deletion in the ledger of deletions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive import model
from archive.deletion import marking
from tasks.errors import ConflictError
from tasks.state import Event
from tasks.taking import Alike

#: The kind of task that marks belong to.
KIND = "DELETE_STUDY"


class _Task(Protocol):
    @property
    def id(self) -> int: ...

    @property
    def kind(self) -> str: ...


def deleting(tasks: Iterable[_Task]) -> list[int]:
    """Return the ids of those tasks that delete studies."""
    return [task.id for task in tasks if task.kind == KIND]


def deleting_alike(groups: Iterable[Alike]) -> list[int]:
    """Return the ids of those tasks that delete studies."""
    return [task_id for group in groups if group.sort.kind == KIND for task_id in group.ids]


def clear(session: Session, task_ids: Collection[int]) -> None:
    """Take back the marks of tasks that end without a deletion."""
    if task_ids:
        marking.give_back(session, task_ids)


def refusals(session: Session, event: Event, chosen: Collection[int], *, lock: bool = True) -> dict[int, str]:
    """Return by task id why some cannot be cancelled or rescheduled: their mark does not stand any more.

    Args:
        session: the transaction; the rows of the tasks are locked in it.
        event: CANCEL or RESCHEDULE.
        chosen: ids of tasks that delete studies.
        lock: wait for deletions that are in their transaction; else say what is so now.
    """
    if not chosen:
        return {}
    standing = marking.standing(session, chosen, lock=lock)
    table = model.StudyDeletion
    begun = {row.task_id: row for row in session.scalars(select(table).where(table.task_id.in_(chosen)))}
    found = {}
    for task_id in chosen:
        why = _why(event, begun.get(task_id), is_standing=task_id in standing)
        if why is not None:
            found[task_id] = f"Cannot {event} Task{{id={task_id}}}: {why}"
    return found


def require(session: Session, event: Event, task: _Task) -> None:
    """See that one task, whose row is locked, can be cancelled or rescheduled as far as its mark goes.

    Raises:
        ConflictError: it cannot, the text says why.
    """
    for refusal in refusals(session, event, deleting([task])).values():
        raise ConflictError(refusal)


def _why(event: Event, begun: model.StudyDeletion | None, *, is_standing: bool) -> str | None:
    if event is Event.CANCEL:
        return None if begun is None else "deletion has begun"
    if begun is not None and begun.unlinked_at is not None:
        return f"its study was deleted at {begun.deleted_at:%Y-%m-%d %H:%M:%S %Z}"
    if begun is not None or is_standing:
        return None
    return "its mark does not stand any more, the study was used or is kept; schedule the study for deletion anew"
