"""Schedule, cancel, reschedule and delete: one task is a bulk call with an id.

A bulk call is cut into transactions of at most about a second, in the order of task ids; each is atomic,
the call is not. A task that is refused is counted once and never met again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.orm import Session

from archive import configuration, db
from config.device import Device
from tasks import equality, idempotency, marks, pins, store
from tasks import query as queries
from tasks.errors import ConflictError, InvalidError, NotFoundError
from tasks.idempotency import Once
from tasks.moving import Change, Mover
from tasks.query import TaskQuery
from tasks.record import NewTask, Task, TaskView
from tasks.registry import kind_of
from tasks.state import Event, may
from tasks.store import By, Taken

#: How many tasks one transaction of a bulk call takes at first, and at most.
_FIRST_CHUNK = 1000
_LARGEST_CHUNK = 20_000
#: How many reasons against tasks a bulk call tells apart.
MOST_REASONS = 1000
#: A transaction of a bulk call should take about so long.
_CHUNK_S = 0.5


@dataclass(slots=True)
class BulkResult:
    """What a bulk call did, or would do."""

    count: int = 0
    failed: int = 0
    #: Why tasks were refused, with the number of tasks.
    refusals: Counter[str] = field(default_factory=Counter)
    #: Number of changed tasks by the device where they are now.
    by_device: Counter[str] = field(default_factory=Counter)
    #: Number of changed tasks by the status that they had.
    by_status: Counter[str] = field(default_factory=Counter)
    operation_id: str | None = None

    def refuse(self, reason: str, number: int = 1) -> None:
        """Count tasks that were refused; a reason names its task, so that only so many are kept."""
        self.failed += number
        if reason not in self.refusals and len(self.refusals) >= MOST_REASONS:
            reason = "for further reasons"
        self.refusals[reason] += number


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
        moves = mover.assign(session, [task])
        if moves.refused:
            raise ConflictError(moves.refused[0][1])
        marks.require(session, Event.RESCHEDULE, task)
        store.reschedule(session, moves.accepted, by, mover.columns())
        pins.give_back_marks(session, [task])


def delete_one(task_id: int, wanted: TaskQuery, by: By) -> None:
    """Delete one task of any status.

    Raises:
        NotFoundError: there is none with this id that fits the path.
    """
    with db.transaction() as session:
        store.delete_tasks(session, [_one(session, task_id, wanted)], by)


def cancel(wanted: TaskQuery, by: By, *, dry_run: bool = False) -> BulkResult:
    """Cancel all matching tasks.

    Raises:
        InvalidError: a status is asked for that cannot be cancelled.
    """
    for status in wanted.statuses:
        if not may(status, Event.CANCEL):
            raise InvalidError(f"Cannot cancel tasks with status: {status}")

    def step(session: Session, tasks: list[Taken], result: BulkResult, operation: By) -> None:
        done = [task for task in tasks if not may(task.status, Event.CANCEL)]
        refused = {task.id: f"Cannot cancel Task with status: {task.status}" for task in done}
        able = [task for task in tasks if task.id not in refused]
        refused |= marks.refusals(session, Event.CANCEL, able, lock=not dry_run)
        for reason in refused.values():
            result.refuse(reason)
        chosen = [task for task in able if task.id not in refused]
        _count(result, [(task, task.device) for task in chosen])
        if not dry_run:
            store.cancel(session, chosen, operation)

    return _in_chunks(wanted, by, step, lock=not dry_run)


def reschedule(wanted: TaskQuery, change: Change, by: By, *, dry_run: bool = False) -> BulkResult:
    """Schedule all matching tasks anew; several devices share what can run there evenly.

    Raises:
        InvalidError: a device, exporter or queue is unknown.
        ConflictError: a device is not one of the cluster.
    """
    mover = Mover(configuration.current(), change)

    def step(session: Session, tasks: list[Taken], result: BulkResult, operation: By) -> None:
        moves = mover.assign(session, tasks)
        refused = marks.refusals(session, Event.RESCHEDULE, [task for task, _ in moves.accepted], lock=not dry_run)
        for reason in [*(reason for _, reason in moves.refused), *refused.values()]:
            result.refuse(reason)
        accepted = [(task, target) for task, target in moves.accepted if task.id not in refused]
        _count(result, [(task, target.device) for task, target in accepted])
        if not dry_run:
            store.reschedule(session, accepted, operation, mover.columns())
            pins.give_back_marks(session, [task for task, _ in accepted])

    return _in_chunks(wanted, by, step, lock=not dry_run)


def delete(wanted: TaskQuery, by: By, *, dry_run: bool = False) -> BulkResult:
    """Delete all matching tasks of any status."""

    def step(session: Session, tasks: list[Taken], result: BulkResult, operation: By) -> None:
        _count(result, [(task, task.device) for task in tasks])
        if not dry_run:
            store.delete_tasks(session, tasks, operation)

    return _in_chunks(wanted, by, step, lock=not dry_run)


Step = Callable[[Session, list[Taken], BulkResult, By], None]


def _in_chunks(wanted: TaskQuery, by: By, step: Step, *, lock: bool) -> BulkResult:
    result = BulkResult(operation_id=by.operation_id or str(uuid4()))
    operation = By(by.actor, by.reason, result.operation_id)
    after_id, size = 0, _FIRST_CHUNK
    # Tasks made while the call runs are not meant by it.
    with db.transaction() as session:
        highest = session.execute(text("SELECT coalesce(max(id), 0) FROM task")).scalar_one()
    while True:
        began = time.monotonic()
        with db.transaction() as session:
            tasks = store.take(session, [*wanted.conditions(), Task.id <= highest], after_id, size, lock=lock)
            if tasks:
                step(session, tasks, result, operation)
        if len(tasks) < size:
            return result
        after_id = tasks[-1].id
        size = _next_size(size, time.monotonic() - began)


def _next_size(size: int, took_s: float) -> int:
    return max(_FIRST_CHUNK // 10, min(_LARGEST_CHUNK, size * 4, int(size * _CHUNK_S / max(took_s, 0.001))))


def _count(result: BulkResult, changed: Sequence[tuple[Taken, str]]) -> None:
    result.count += len(changed)
    result.by_device.update(device for _, device in changed)
    result.by_status.update(task.status.value for task, _ in changed)


def _one(session: Session, task_id: int, wanted: TaskQuery) -> Taken:
    found = store.take(session, [*wanted.conditions(), Task.id == task_id], 0, 1)
    if not found:
        raise NotFoundError(f"No such Task : {task_id}")
    return found[0]


def _made_before(session: Session, once: Once, task_id: int) -> TaskView:
    task = queries.get(session, task_id)
    if task is None:
        raise ConflictError(f"Idempotency-Key: {once.key} made Task {task_id}, which was deleted; expected a new key")
    return task
