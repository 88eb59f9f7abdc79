"""The loop of a bulk call: chunk after chunk in the order of task ids, each a transaction of its own.

A chunk first looks at its tasks without locking them, and changes only what nobody has changed since. Where
somebody has, it is rolled back and done again with locks, as is the rest of the call.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

from sqlalchemy import ColumnElement, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from archive import db
from tasks import history, marks, taking
from tasks.errors import ConflictError
from tasks.query import TaskQuery
from tasks.record import Task
from tasks.store import By, OvertakenError
from tasks.taking import Alike

#: How many tasks one transaction of a bulk call takes at first, and at most.
_FIRST_CHUNK = 1000
_LARGEST_CHUNK = 10_000
#: A transaction of a bulk call should take about so long: who wants one of its tasks waits as long.
_CHUNK_S = 0.25
#: So often a chunk is tried with locks when the database has to end a deadlock.
_TRIES = 5
#: How many reasons against tasks a bulk call tells apart.
MOST_REASONS = 1000

_DEADLOCK = "40P01"


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
    #: It ended before all tasks were looked at, because somebody wanted that.
    was_stopped: bool = False

    def refuse(self, reason: str, number: int = 1) -> None:
        """Count tasks that were refused; a reason names its task, so that only so many are kept."""
        self.failed += number
        if reason not in self.refusals and len(self.refusals) >= MOST_REASONS:
            reason = "for further reasons"
        self.refusals[reason] += number

    def refuse_each(self, reason: str, task_ids: Sequence[int]) -> None:
        """Count tasks that were refused for a reason in which `{task}` stands for their id."""
        for number, task_id in enumerate(task_ids):
            if len(self.refusals) >= MOST_REASONS:
                return self.refuse("for further reasons", len(task_ids) - number)
            self.refuse(reason.replace("{task}", str(task_id)))
        return None

    def change(self, group: Alike, device: str) -> None:
        """Count tasks that were changed, and are on this device now."""
        self.count += len(group.ids)
        self.by_device[device] += len(group.ids)
        self.by_status[group.sort.status.value] += len(group.ids)

    def add(self, part: BulkResult) -> None:
        """Add what a chunk did."""
        self.count += part.count
        self.by_device.update(part.by_device)
        self.by_status.update(part.by_status)
        for reason, number in part.refusals.items():
            self.refuse(reason, number)


class Watch:
    """Who follows a bulk call; this one does not care what becomes of it."""

    def wants_stop(self) -> bool:
        """Tell whether the call shall end; asked between chunks."""
        return False

    def note(self, session: Session, result: BulkResult) -> None:
        """Take note of what was done so far; in the transaction of the chunk that did the last of it."""


NOBODY = Watch()

#: Does to the tasks of a chunk what the call is for, and returns what that was; given what was done before.
Step = Callable[[Session, list[Alike], By, BulkResult], BulkResult]


def in_chunks(wanted: TaskQuery, by: By, step: Step, *, lock: bool, watch: Watch = NOBODY) -> BulkResult:
    """Do a step for all matching tasks that there are now.

    Args:
        wanted: which tasks.
        by: who wants it. With the operation id of a call that was cut off it goes on behind the last task
            that was changed then, and counts what was done then too.
        step: what is done.
        lock: it changes tasks.
        watch: who follows.

    Raises:
        ConflictError: another process does the same operation.
    """
    operation = replace(by, operation_id=by.operation_id or str(uuid4()))
    with db.transaction() as session:
        call = _begin(session, wanted, operation, is_resumable=lock and by.operation_id is not None)
    while not watch.wants_stop():
        began = time.monotonic()
        taken = call.chunk(step, watch, lock=lock)
        if taken < call.size:
            return call.result
        call.size = _next_size(call.size, time.monotonic() - began)
    call.result.was_stopped = True
    return call.result


@dataclass(slots=True)
class _Call:
    """Where a bulk call is."""

    conditions: list[ColumnElement[bool]]
    operation: By
    result: BulkResult
    after_id: int = 0
    #: Tasks that the next chunk takes.
    size: int = field(default_factory=lambda: _FIRST_CHUNK)
    #: Nobody else may do the same operation at the same time.
    is_resumable: bool = False
    #: Others want the same tasks.
    is_contended: bool = False

    def chunk(self, step: Step, watch: Watch, *, lock: bool) -> int:
        """Do the step for the next tasks; return how many were looked at."""
        for left in reversed(range(_TRIES)):
            try:
                return self._try(step, watch, lock=lock)
            except OvertakenError:
                self.is_contended = True
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) != _DEADLOCK or not left:
                    raise
                self.is_contended = True
        raise AssertionError("a chunk whose tasks are locked was overtaken")

    def _try(self, step: Step, watch: Watch, *, lock: bool) -> int:
        result = replace(
            self.result, refusals=self.result.refusals.copy(), by_device=self.result.by_device.copy(),
            by_status=self.result.by_status.copy(),
        )  # fmt: skip
        with db.transaction() as session:
            if self.is_resumable:
                self._stay_alone(session)
            groups = self._take(session, lock=lock)
            if groups:
                result.add(step(session, groups, self.operation, self.result))
                watch.note(session, result)
        self.result = result
        self.after_id = max((group.ids[-1] for group in groups), default=self.after_id)
        return sum(len(group.ids) for group in groups)

    def _take(self, session: Session, *, lock: bool) -> list[Alike]:
        locked = lock and self.is_contended
        groups = taking.take_alike(session, self.conditions, self.after_id, self.size, lock=locked)
        if lock and not locked and any(group.sort.kind == marks.KIND for group in groups):
            # Their marks are locked behind them.
            return taking.take_alike(session, self.conditions, self.after_id, self.size, lock=True)
        return groups

    def _stay_alone(self, session: Session) -> None:
        operation_id = self.operation.operation_id or ""
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 2))"), {"key": operation_id})
        if history.last_of_operation(session, operation_id) > self.after_id:
            raise ConflictError(f"operation {operation_id} is being done by another process")


def _begin(session: Session, wanted: TaskQuery, operation: By, *, is_resumable: bool) -> _Call:
    # Tasks made while the call runs are not meant by it.
    highest = session.execute(text("SELECT coalesce(max(id), 0) FROM task")).scalar_one()
    result = BulkResult(operation_id=operation.operation_id)
    call = _Call([*wanted.conditions(), Task.id <= highest], operation, result, is_resumable=is_resumable)
    before = history.of_operation(session, operation.operation_id or "") if is_resumable else []
    for part in before:
        result.count += part.number
        result.by_device[part.device] += part.number
        result.by_status[part.from_status] += part.number
    if before:
        call.after_id = max(part.last_id for part in before)
        call.conditions.append(Task.created_time <= min(part.began for part in before))
    return call


def _next_size(size: int, took_s: float) -> int:
    return max(_FIRST_CHUNK // 10, min(_LARGEST_CHUNK, size * 4, int(size * _CHUNK_S / max(took_s, 0.001))))
