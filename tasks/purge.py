"""Remove what is old enough: done tasks by their queue's delays, and records by their retention."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, delete, select

from archive import db
from config.device import Device, Queue
from tasks import store, taking
from tasks.control import AcceptedMessage, IdempotencyKey, WorkerNode
from tasks.diffs import DiffResult
from tasks.history import History
from tasks.kept_operations import Operation
from tasks.record import Task
from tasks.run import ObjectOutcomeRow, Run
from tasks.slots import NOW
from tasks.state import Status
from tasks.store import By

#: How long transitions are kept.
KEEP_HISTORY = timedelta(days=90)
#: How long message ids and idempotency keys are kept.
KEEP_ANSWERED = timedelta(days=30)
#: How long ended runs, their objects, ended operations and gone workers are kept.
KEEP_RUNS = timedelta(days=90)

#: Rows that one transaction removes.
_CHUNK = 5000


def delays(queue: Queue) -> dict[Status, timedelta]:
    """Return after which time tasks of a queue are purged, by status. Source: dcmPurgeQueueMessage*Delay."""
    all_of_them = {
        Status.COMPLETED: queue.purge_completed_after,
        Status.FAILED: queue.purge_failed_after,
        Status.WARNING: queue.purge_warning_after,
        Status.CANCELED: queue.purge_canceled_after,
    }
    return {status: delay for status, delay in all_of_them.items() if delay is not None}


def purge_tasks(device: Device) -> str:
    """Delete this device's done tasks that were last changed longer ago than their queue's delay."""
    purged = 0
    for queue in device.queues.values():
        for status, delay in delays(queue).items():
            conditions = [
                Task.device == device.name,
                Task.queue == queue.name,
                Task.status == status.value,
                Task.updated_time < NOW - delay,
            ]
            after = 0
            while True:
                with db.transaction() as session:
                    old = taking.take(session, conditions, after, _CHUNK)
                    purged += store.delete_tasks(session, old, By(f"purge of {device.name}", f"{status} for {delay}"))
                if len(old) < _CHUNK:
                    break
                after = old[-1].id
    return f"{purged} tasks purged"


def clean_records(device: Device) -> str:
    """Remove history, ended runs and answered requests that are past their retention; any device may do it."""
    del device
    removed = {
        "history": _remove(History, History.seq, History.at < NOW - KEEP_HISTORY),
        "objects": _remove(
            ObjectOutcomeRow,
            ObjectOutcomeRow.id,
            (ObjectOutcomeRow.at < NOW - KEEP_RUNS) & ~_task_exists(ObjectOutcomeRow.task_id),
        ),
        # As soon as their task is gone: they are of use to nobody.
        "differences": _remove(DiffResult, DiffResult.id, ~_task_exists(DiffResult.task_id)),
        "runs": _remove(Run, Run.id, Run.ended_at < NOW - KEEP_RUNS),
        "messages": _remove(AcceptedMessage, AcceptedMessage.message_id, AcceptedMessage.at < NOW - KEEP_ANSWERED),
        "keys": _remove(IdempotencyKey, IdempotencyKey.key, IdempotencyKey.at < NOW - KEEP_ANSWERED),
        "operations": _remove(Operation, Operation.id, Operation.ended_at < NOW - KEEP_RUNS),
        "workers": _remove(WorkerNode, WorkerNode.id, WorkerNode.seen_at < NOW - KEEP_RUNS),
    }
    return ", ".join(f"{number} {what} removed" for what, number in removed.items())


def _task_exists(task_id: Any) -> Any:
    # What a task that still exists has sent is needed by its next attempt.
    return select(Task.id).where(Task.id == task_id).exists()


def _remove(table: type[db.Base], key: Any, condition: Any) -> int:
    total = 0
    while True:
        with db.transaction() as session:
            chosen = select(key).where(condition).limit(_CHUNK)
            # Once more the condition: a key may stand for several rows.
            done = session.execute(delete(table).where(key.in_(chosen), condition))
        number = cast("CursorResult[Any]", done).rowcount
        total += number
        if number < _CHUNK:
            return total
