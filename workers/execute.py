"""One run, from top to bottom: claim, attempt, settle."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

import structlog
from sqlalchemy.orm import Session

from archive import configuration, db
from archive.errors import Permanent
from config import settings
from config.device import Device, Queue
from tasks import circumstances, query, registry, retry, slots, store, waited
from tasks.errors import InvalidError, NotFoundError, ObsoleteError, StoppedError
from tasks.outcome import Outcome
from tasks.record import TaskView
from tasks.run import Ending, Stop
from tasks.state import Event, Status
from tasks.store import By, Claimed, Report
from tasks.work import LOST, Work, now_s
from workers.queues import RunMessage

_log = structlog.get_logger()

#: Seconds that a claim waits for a database that is away; then the sweep sends the message again.
_CLAIM_FOR_S = 8.0


@dataclass(frozen=True, slots=True)
class Node:
    """The worker that runs us."""

    id: int
    name: str


def run(request: Any, *args: Any) -> None:
    """Celery's entrance, one for each kind: run one attempt of one task and record how it ended."""
    node_id = settings.node_id()
    try:
        message = RunMessage.of(args)
    except ValueError as error:
        _log.warning("message refused", celery_id=request.request.id, error=str(error))
        return
    if node_id is None:
        _log.warning("message refused", celery_id=request.request.id, error="this worker has no --device")
        return
    run_task(message, Node(int(node_id), request.request.hostname))


def run_task(message: RunMessage, node: Node) -> None:
    """Claim the task, attempt it, settle how it ended; a stale message ends here without a trace."""
    asked_s = now_s()
    claimed, device = claim(message, node)
    if claimed is None or device is None:
        return
    with structlog.contextvars.bound_contextvars(device=device.name, task=claimed.task.id, run=claimed.run_id):
        ending = attempt(claimed, device, asked_s + device.task_lease.total_seconds())
        settle(claimed, device, ending)
        _log.info("ran", kind=claimed.task.kind, ending=_said(ending), took_s=round(now_s() - asked_s, 3))


def claim(message: RunMessage, node: Node) -> tuple[Claimed | None, Device | None]:
    """Take the task that the message is about, if it may still run and the message is not stale."""

    def take(session: Session) -> tuple[Claimed | None, Device | None]:
        found = slots.reservation(session, message.run_id, message.token)
        if found is None:
            return None, None
        run_row, now = found
        device = configuration.current().devices.get(run_row.device)
        if device is None or circumstances.run_refusals(session, run_row, now):
            # Paused, held, or its window closed, since the message was sent.
            slots.release(session, [message.run_id], Ending.WITHDRAWN)
            return None, None
        taken = store.claim(
            session, message.task_id, message.run_id, message.token,
            node=(node.id, node.name), lease=device.task_lease,
        )  # fmt: skip
        return taken, device

    try:
        return db.insist(take, for_s=_CLAIM_FOR_S)
    except db.OUTAGES as outage:
        _log.warning("not claimed, the database is away", task=message.task_id, error=db.first_line(outage))
        return None, None


def attempt(claimed: Claimed, device: Device, lease_ends_s: float) -> Outcome | Exception:
    """Run the handler; whatever it raises is how the attempt ended."""
    current = settings.current()
    work = Work(claimed, device, home=current.home, lease_ends_s=lease_ends_s, trace=current.trace_file)
    try:
        outcome = registry.kind_of(claimed.task.kind).process(claimed.task, work)
        work.close()
    except Exception as error:  # noqa: BLE001 - the only broad except in the code base
        work.close()
        return error
    return outcome


def settle(claimed: Claimed, device: Device, ending: Outcome | Exception) -> Status | None:
    """Record how the attempt ended; the task follows only if it is still the task of this run."""
    queue = device.queues.get(claimed.task.queue) or Queue(claimed.task.queue)
    said = report_of(ending, _policy(queue, claimed.task), claimed.task.failures)
    return tell(claimed.task.id, claimed.run_id, said, By(claimed.node))


def _policy(queue: Queue, task: TaskView) -> Queue:
    """Return the queue with the retries that hold for this task."""
    if waited.UNTIL not in task.params:
        return queue
    # Since it was claimed somebody else may have asked for the same, who wants it to be tried again.
    now = db.insist(lambda session: query.get(session, task.id)) or task
    return waited.policy(queue, now.params, datetime.now(UTC))


def tell(task_id: int, run_id: int, said: Report, by: By) -> Status | None:
    """Write a report, again and again while the database is away."""
    return db.insist(lambda session: store.report(session, task_id, run_id, said, by))


def report_of(ending: Outcome | Exception, queue: Queue, failures: int) -> Report:
    """Pure: return what is reported of an attempt that ended like this.

    Args:
        ending: what the handler returned or raised.
        queue: whose retry policy holds.
        failures: failed attempts before this one.
    """
    delay = retry.delay(queue, failures + 1)
    match ending:
        case Outcome(status=Status.COMPLETED, message=text):
            return Report(Event.SUCCEED, outcome=text)
        case Outcome(status=Status.WARNING, message=text) if not queue.retry_on_warning:
            return Report(Event.WARN, outcome=text)
        case Outcome(message=text) if delay is not None:
            return Report(Event.RETRY, outcome=text, delay=delay, counts=True)
        case Outcome(status=status, message=text):
            return Report(Event.WARN if status is Status.WARNING else Event.FAIL, outcome=text, counts=True)
        case StoppedError(reason=reason):
            return _stopped(reason, queue, failures)
        case ObsoleteError():
            return Report(Event.DROP, outcome=str(ending))
        case Permanent() | InvalidError() | NotFoundError():
            return Report(Event.FAIL, error=str(ending), counts=True)
        case Exception() if delay is not None:
            return Report(Event.RETRY, error=_text(ending), delay=delay, counts=True)
        case Exception():
            return Report(Event.FAIL, error=_text(ending), counts=True)
        case _:
            assert_never(ending)


def _stopped(reason: str, queue: Queue, failures: int) -> Report:
    if reason == Stop.WATCHDOG:
        return watchdog_report(queue, failures)
    if reason == Stop.SHUTDOWN:
        return Report(Event.GIVE_BACK, reason="the worker stops")
    if reason == LOST:
        return Report(Event.LOSE, reason="the lease was over")
    # Cancelled, moved or deleted: the task is not this run's any more, only the run row ends.
    return Report(Event.GIVE_BACK, reason=reason)


def report_stopped(
    session: Session, task_id: int, run_id: int, reason: str, queues: Mapping[str, Queue], by: By
) -> Status | None:
    """Report a run whose process is gone after it was asked to stop for this reason."""
    task = query.get(session, task_id)
    queue = (queues.get(task.queue) if task is not None else None) or Queue("unknown")
    if task is not None:
        queue = waited.policy(queue, task.params, datetime.now(UTC))
    said = _stopped(reason, queue, task.failures if task is not None else 0)
    return store.report(session, task_id, run_id, said, by)


def watchdog_report(queue: Queue, failures: int) -> Report:
    """Return the report of a run that ran or was silent for too long: a failure like any other."""
    text = (
        f"stopped by the watchdog of queue {queue.name}: it ran longer than {queue.max_run_time} "
        f"or made no progress for {queue.max_silence}"
    )
    delay = retry.delay(queue, failures + 1)
    if delay is None:
        return Report(Event.FAIL, error=text, counts=True)
    return Report(Event.RETRY, error=text, delay=delay, counts=True)


def _text(error: BaseException) -> str:
    _log.warning("attempt failed", error=str(error), traceback="".join(traceback.format_exception(error)[-3:]))
    return db.first_line(error) or type(error).__name__


def _said(ending: Outcome | Exception) -> str:
    return f"{ending.status}: {ending.message}" if isinstance(ending, Outcome) else str(ending)
