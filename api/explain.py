"""Why a task does not run: the reasons of `tasks.admission`, and whether anybody is there to run it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.rest import times
from archive import configuration, db
from config import settings
from config.device import Cluster
from tasks import admission, circumstances, slots
from tasks.admission import Candidate, Refusal
from tasks.control import DEAD_AFTER, WorkerNode
from tasks.record import TaskView
from tasks.run import Run
from tasks.state import Status
from workers import queues


def explain(task: TaskView) -> dict[str, object]:
    """Return whether the task may run now, every reason against it, and its open run."""
    zone = settings.current().zone()
    cluster = configuration.current()
    with db.transaction() as session:
        now = slots.database_time(session)
        run = session.scalars(select(Run).where(Run.task_id == task.id, Run.ended_at.is_(None))).one_or_none()
        node = session.get(WorkerNode, run.node_id) if run is not None and run.node_id is not None else None
        reasons = [] if _goes_on(task, run) else [*_reasons(session, cluster, task, run, now)]
    return {
        "taskID": task.id,
        "status": task.status.value,
        "now": times.written(now, zone),
        "mayRun": not reasons,
        "reasons": [
            {"why": why, "text": text, "until": None if until is None else times.written(until, zone)}
            for why, text, until in reasons
        ],
        "run": None if run is None else {
            "runID": run.id,
            "device": run.device,
            "worker": node.name if node else None,
            "since": times.written(run.claimed_at or run.reserved_at, zone),
            "leaseUntil": times.written(run.lease_until, zone),
            "askedToStop": run.stop_reason,
        },
    }  # fmt: skip


def _goes_on(task: TaskView, run: Run | None) -> bool:
    """Tell whether the task runs, or its message is on the way: then nothing keeps it."""
    if run is None or run.stop_reason is not None:
        return False
    return task.status is Status.IN_PROCESS or (task.status.is_waiting and run.claimed_at is None)


def _reasons(
    session: Session, cluster: Cluster, task: TaskView, run: Run | None, now: datetime
) -> Iterator[tuple[str, str, datetime | None]]:
    device = cluster.devices.get(task.device)
    zone = circumstances.zone_of(device)
    candidate = Candidate(
        status=task.status,
        device=task.device,
        queue=task.queue,
        scheduled_time=task.scheduled_time,
        destination=circumstances.destination_of(session, task.destination),
        has_open_run=run is not None,
    )
    found: list[Refusal] = admission.admissible(
        candidate, cluster, circumstances.pauses_of(session, task.device), zone, now
    )
    yield from ((refusal.why.value, refusal.text, refusal.until) for refusal in found)
    if device is None or not task.status.is_waiting:
        return
    channel = queues.channel_for(task.kind, task.device)
    alive = select(func.count()).where(
        WorkerNode.channel == channel, WorkerNode.stopped_at.is_(None), WorkerNode.seen_at > now - DEAD_AFTER
    )
    if not session.scalar(alive):
        yield "no worker", f"no worker of channel {channel} lives: `arcfleet worker --device {task.device}`", None
    queue = device.queues.get(task.queue)
    busy = session.scalar(
        select(func.count()).where(Run.device == task.device, Run.queue == task.queue, Run.ended_at.is_(None))
    )
    if queue is not None and busy is not None and busy >= queue.max_tasks_parallel:
        text = f"Queue {queue.name} of device {device.name} has {busy} of {queue.max_tasks_parallel} runs"
        yield "queue full", text, None
