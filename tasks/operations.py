"""Schedule, cancel, reschedule and delete: one task is a bulk call with an id.

A bulk call is cut into transactions of about a quarter of a second, in the order of task ids; each is atomic,
the call is not. A task that is refused is counted once and never met again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from sqlalchemy.orm import Session

from archive import configuration, db
from config.device import Device
from tasks import bulk, equality, idempotency, marks, pins, store, taking
from tasks import query as queries
from tasks.bulk import NOBODY, BulkResult, Watch
from tasks.errors import ConflictError, InvalidError, NotFoundError
from tasks.idempotency import Once
from tasks.moving import Change, Mover
from tasks.query import TaskQuery
from tasks.record import NewTask, Task, TaskView
from tasks.registry import kind_of
from tasks.state import Event, may
from tasks.store import By
from tasks.taking import Alike, Taken, alike


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A task that was asked for, and whether it was there already."""

    task: TaskView
    existed: bool = False
    #: The request was answered before, under the same key.
    repeated: bool = False


def schedule(
    new: NewTask, by: By, *, allow_duplicate: bool = False, equal_on: Sequence[str] = (), once: Once | None = None,
    within: Session | None = None,
) -> Scheduled:  # fmt: skip
    """Make a task; an equal one that still waits is returned instead, unless duplicates are allowed.

    Args:
        new: the task.
        by: who wants it.
        allow_duplicate: make it also if an equal one waits.
        equal_on: devices whose waiting tasks count as equal; none: its own.
        once: a key that the client gave; a repeated request gets the task of the first one.
        within: the transaction to do it in; None: one of its own.

    Raises:
        NotFoundError: its device is not ours.
        InvalidError: a parameter cannot be used; nothing was made.
        ConflictError: the key was used for something else, or its task is gone.
    """
    device = our_device(new.device)
    checked = kind_of(new.kind).validate(new, device)
    with db.transaction() if within is None else nullcontext(within) as session:
        before = idempotency.answered(session, once) if once else None
        if once and before:
            return Scheduled(_made_before(session, once, before[0]), repeated=True)
        waiting = None if allow_duplicate else equality.one(session, checked, equal_on or (new.device,))
        task = waiting or store.insert_tasks(session, [checked], by)[0]
        # Also of a task that waits: it may have been due for so long that it kept the study no more.
        pins.give_back_marks(session, [task])
        scheduled = Scheduled(task, existed=waiting is not None)
        if once:
            idempotency.remember(session, once, [scheduled.task.id])
        return scheduled


def schedule_all(new: Sequence[NewTask], by: By) -> list[TaskView]:
    """Make many tasks in one transaction, or none of them.

    Raises:
        NotFoundError: the device of one is not ours.
        InvalidError: a parameter of one cannot be used.
    """
    checked = [kind_of(task.kind).validate(task, our_device(task.device)) for task in new]
    with db.transaction() as session:
        made = store.insert_tasks(session, checked, by)
        pins.give_back_marks(session, made)
        return made


def our_device(name: str) -> Device:
    """Return the device with this name.

    Raises:
        NotFoundError: the configuration has none, or arcfleet does not run it.
    """
    cluster = configuration.current()
    device = cluster.devices.get(name)
    if device is None:
        raise NotFoundError(f"Unknown Device: {name}, expected one of {', '.join(cluster.ours)}")
    if not device.is_ours:
        raise NotFoundError(f"Device: {name} is not run by arcfleet, expected one of {', '.join(cluster.ours)}")
    return device


def cancel_one(task_id: int, wanted: TaskQuery, by: By) -> None:
    """Cancel one task.

    Raises:
        NotFoundError: there is none with this id that fits the path.
        ConflictError: it is done, or the deletion that it is for has begun.
    """
    with db.transaction() as session:
        task = _one(session, task_id, wanted)
        if not may(task.status, Event.CANCEL):
            raise ConflictError(f"Cannot cancel Task with status: {task.status}")
        marks.require(session, Event.CANCEL, task)
        store.cancel(session, [task], by)


def reschedule_one(task_id: int, wanted: TaskQuery, change: Change, by: By) -> None:
    """Schedule one task anew, on its own device or on the first of `change.devices`.

    Raises:
        NotFoundError: there is none with this id that fits the path.
        InvalidError: a device, exporter or queue is unknown.
        ConflictError: the target cannot run it, or the mark that it is for does not stand.
    """
    mover = Mover(configuration.current(), change)
    with db.transaction() as session:
        task = _one(session, task_id, wanted)
        moves = mover.assign(session, alike([task]))
        for reason, _ in moves.refused:
            raise ConflictError(reason.replace("{task}", str(task.id)))
        marks.require(session, Event.RESCHEDULE, task)
        store.reschedule_alike(session, moves.accepted, by, mover.columns())
        pins.give_back_marks(session, [task])


def delete_one(task_id: int, wanted: TaskQuery, by: By) -> None:
    """Delete one task of any status.

    Raises:
        NotFoundError: there is none with this id that fits the path.
    """
    with db.transaction() as session:
        store.delete_tasks(session, [_one(session, task_id, wanted)], by)


def cancel(wanted: TaskQuery, by: By, *, dry_run: bool = False, watch: Watch = NOBODY) -> BulkResult:
    """Cancel all matching tasks.

    Raises:
        InvalidError: a status is asked for that cannot be cancelled.
    """
    for status in wanted.statuses:
        if not may(status, Event.CANCEL):
            raise InvalidError(f"Cannot cancel tasks with status: {status}")

    def step(session: Session, groups: list[Alike], operation: By, _before: BulkResult) -> BulkResult:
        result = BulkResult()
        able = []
        for group in groups:
            if may(group.sort.status, Event.CANCEL):
                able.append(group)
            else:
                result.refuse(f"Cannot cancel Task with status: {group.sort.status}", len(group.ids))
        chosen = _with_standing_marks(session, Event.CANCEL, able, result, lock=not dry_run)
        for group in chosen:
            result.change(group, group.sort.device)
        if not dry_run:
            store.cancel_alike(session, chosen, operation)
        return result

    return bulk.in_chunks(wanted, by, step, lock=not dry_run, watch=watch)


def reschedule(
    wanted: TaskQuery, change: Change, by: By, *, dry_run: bool = False, watch: Watch = NOBODY
) -> BulkResult:  # fmt: skip
    """Schedule all matching tasks anew; several devices share what can run there evenly.

    Raises:
        InvalidError: a device, exporter or queue is unknown.
        ConflictError: a device is not one of the cluster.
    """
    mover = Mover(configuration.current(), change)

    def step(session: Session, groups: list[Alike], operation: By, before: BulkResult) -> BulkResult:
        result = BulkResult()
        moves = mover.assign(session, groups, turn=before.count)
        going = [group for group, _ in moves.accepted]
        standing = _with_standing_marks(session, Event.RESCHEDULE, going, result, lock=not dry_run)
        if result.failed:  # who is refused takes no turn
            moves.accepted = mover.assign(session, standing, turn=before.count).accepted
        for reason, task_ids in moves.refused:
            result.refuse_each(reason, task_ids)
        for group, target in moves.accepted:
            result.change(group, target.device)
        if not dry_run:
            store.reschedule_alike(session, moves.accepted, operation, mover.columns())
            pins.give_back_marks_of(session, [group for group, _ in moves.accepted])
        return result

    return bulk.in_chunks(wanted, by, step, lock=not dry_run, watch=watch)


def delete(wanted: TaskQuery, by: By, *, dry_run: bool = False, watch: Watch = NOBODY) -> BulkResult:
    """Delete all matching tasks of any status."""

    def step(session: Session, groups: list[Alike], operation: By, _before: BulkResult) -> BulkResult:
        result = BulkResult()
        for group in groups:
            result.change(group, group.sort.device)
        if not dry_run:
            store.delete_alike(session, groups, operation)
        return result

    return bulk.in_chunks(wanted, by, step, lock=not dry_run, watch=watch)


def _with_standing_marks(
    session: Session, event: Event, groups: Sequence[Alike], result: BulkResult, *, lock: bool
) -> list[Alike]:  # fmt: skip
    """Return the tasks without those whose mark for deletion does not stand; these are refused."""
    refused = marks.refusals(session, event, marks.deleting_alike(groups), lock=lock)
    for reason in refused.values():
        result.refuse(reason)
    if not refused:
        return list(groups)
    left = [group.only([task_id for task_id in group.ids if task_id not in refused]) for group in groups]
    return [group for group in left if group.ids]


def _one(session: Session, task_id: int, wanted: TaskQuery) -> Taken:
    found = taking.take(session, [*wanted.conditions(), Task.id == task_id], 0, 1)
    if not found:
        raise NotFoundError(f"No such Task : {task_id}")
    return found[0]


def _made_before(session: Session, once: Once, task_id: int) -> TaskView:
    task = queries.get(session, task_id)
    if task is None:
        raise ConflictError(f"Idempotency-Key: {once.key} made Task {task_id}, which was deleted; expected a new key")
    return task
