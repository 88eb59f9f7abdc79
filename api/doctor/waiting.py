"""Tasks that wait although they are due, and runs that nobody looks after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, exists, func, select
from sqlalchemy.orm import Session

from api import explain
from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.words import some, span
from archive import db
from tasks import query, slots
from tasks.admission import Why
from tasks.alarms import Alarm
from tasks.record import Task, TaskView
from tasks.registry import load_kinds
from tasks.run import Run
from tasks.state import WAITING

SAY = Subject("tasks")

#: How long a task may be due before it is asked why it does not run.
_LATE = timedelta(minutes=5)
#: A queue in which a run ended so lately moves: its tasks wait their turn.
_MOVES = timedelta(minutes=1)
#: Queues and destinations that are looked at, those with the most tasks first.
_MOST_GROUPS = 50
#: Seconds for which a lease may be over: beat rescues every second, but not before one lease after an outage.
_OVER_S = 30.0
#: Seconds for which a message may stay unclaimed while its worker lives.
_UNCLAIMED_S = 60.0

#: Reasons that somebody has to mend; all others pass by themselves, or are wanted.
_TO_BE_MENDED = frozenset({"no worker", Why.UNKNOWN_DEVICE, Why.UNKNOWN_QUEUE, Why.FOREIGN, Why.NOT_INSTALLED})


def tasks(case: Case) -> Iterator[Finding]:
    """Ask of each queue and destination why its due tasks do not run; an answer there must be."""
    with db.transaction() as session:
        now = slots.database_time(session)
        groups = [row for row in _late(session, now) if case.is_meant(row.device)]
        samples = {row.sample: query.get(session, row.sample) for row in groups}
        moving = {(row.device, row.queue) for row in groups if _moves(session, row, now)}
    for row in groups:
        task = samples[row.sample]
        if task is not None:  # else it was deleted a moment ago
            yield _explained(case, row, task, now, is_moving=(row.device, row.queue) in moving)
    if not groups:
        yield SAY.ok("waiting", f"no task is due for more than {span(_LATE.total_seconds())}")


def runs(case: Case) -> Iterator[Finding]:
    """Look for runs whose lease is over, and for messages that nobody claims."""
    with db.transaction() as session:
        found = [run for run in slots.open_runs(session) if case.is_meant(run.device)]
    lost = [run for run in found if run.claimed_ago_s is not None and run.lease_left_s < -_OVER_S]
    unclaimed = [run for run in found if run.claimed_ago_s is None and run.sent_ago_s > _UNCLAIMED_S]
    if lost:
        longest = span(-min(run.lease_left_s for run in lost))
        said = f"{len(lost)} with a lease that is over, by up to {longest}: tasks {some(run.task_id for run in lost)}"
        yield SAY.error("runs", said, "rescued within seconds", "see beat, which rescues them")
    if unclaimed:
        longest = span(max(run.sent_ago_s for run in unclaimed))
        devices = some(sorted({run.device for run in unclaimed}))
        said = f"{len(unclaimed)} messages that nobody claims for up to {longest}, of {devices}"
        yield SAY.warning("messages", said, "claimed at once", "see the workers of these devices, and the broker")
    if not lost and not unclaimed:
        yield SAY.ok("runs", f"{len(found)} open, all with a lease")


def alarms(case: Case) -> Iterator[Finding]:
    """List the alarms that stand, those of one sort together."""
    with db.transaction() as session:
        rows = session.scalars(select(Alarm).order_by(Alarm.raised_at)).all()
    found: dict[str, list[Alarm]] = {}
    for row in rows:
        if case.is_meant(row.device):
            found.setdefault(row.name, []).append(row)
    for name, held in found.items():
        first = held[0]
        said = f"{len(held)}, the first of {first.raised_at:%Y-%m-%d %H:%M:%S %Z}: {first.text}"
        yield SAY.warning(f"alarm {name}", said, "none", "see the tasks that they name")
    if not found:
        yield SAY.ok("alarms", "none")


def _late(session: Session, now: datetime) -> Sequence[Row[Any]]:
    """Return for each device, queue and destination how many tasks are late, since when, and one of them."""
    number = func.count().label("number")
    rows: Sequence[Any] = session.execute(
        select(
            Task.device, Task.queue, Task.destination, number, func.min(Task.scheduled_time).label("since"),
            func.min(Task.id).label("sample"),
        )
        .where(Task.status.in_([status.value for status in WAITING]), Task.scheduled_time < now - _LATE)
        .group_by(Task.device, Task.queue, Task.destination).order_by(number.desc()).limit(_MOST_GROUPS)
    ).all()  # fmt: skip
    return rows


def _moves(session: Session, row: Row[Any], now: datetime) -> bool:
    ended = exists().where(Run.ended_at > now - _MOVES, Run.device == row.device, Run.queue == row.queue)
    return bool(session.scalar(select(ended)))


def _explained(case: Case, row: Row[Any], task: TaskView, now: datetime, *, is_moving: bool) -> Finding:
    where = f"{row.device}/{row.queue}" + (f" for {row.destination}" if row.destination else "")
    found = f"{row.number} wait, the first since {span((now - row.since).total_seconds())}, for example {task.id}"
    reasons = _reasons(case, task, is_moving=is_moving)
    device = str(row.device)
    if not reasons:
        do = f"arcfleet task explain {task.id}; see beat and the logs of the workers"
        return SAY.error(f"waiting on {where}", f"{found}: nothing keeps them", "that they run", do, device=device)
    because = f"{found}: {some(reasons.values(), 3)}"
    if _TO_BE_MENDED & reasons.keys():
        do = "mend that, or move them: arcfleet task reschedule --new-device NAME"
        return SAY.warning(f"waiting on {where}", because, "that they run", do, device=device)
    return SAY.note(f"waiting on {where}", because, device=device)


def _reasons(case: Case, task: TaskView, *, is_moving: bool) -> Mapping[str, str]:
    """Return what keeps a task, by the engine's own word; none: nothing does."""
    if task.kind not in load_kinds():
        return {"kind": f"kind {task.kind} is not run by this version"}
    said = explain.explain(task)
    found = {str(one["why"]): str(one["text"]) for one in _listed(said["reasons"])}
    if not found and said["run"] is not None:
        found["message"] = "its message is on the way"
    if not found and is_moving:
        found["turn"] = "others of its queue go first"
    if not found and not case.has_broker:
        found["broker"] = "the broker does not answer"
    return found


def _listed(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)  # noqa: S101  # as `explain` makes it
    return value
