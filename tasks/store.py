"""Every statement that writes the status of a task. Nothing else in the project does.

Each change locks the task row, asks the table of `tasks.state`, and writes with the status (and for
reports of a run, the open run) as a guard. The lock comes in a statement of its own: the next statement
then sees what was committed while it waited, the run rows included.
"""

from __future__ import annotations

import itertools
import typing
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Delete,
    Integer,
    RowMapping,
    Text,
    Update,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from tasks import history, marks, slots, state, waited
from tasks.errors import TaskError
from tasks.history import Arrow
from tasks.record import NewTask, Task, TaskView
from tasks.run import Ending, Run, Stop
from tasks.slots import NOW
from tasks.state import Event, Status
from tasks.taking import Alike, Taken, alike

_TABLE = Task.metadata.tables[Task.__tablename__]

T = TypeVar("T")
K = TypeVar("K")

_ENDINGS = {
    Event.SUCCEED: Ending.COMPLETED,
    Event.WARN: Ending.WARNING,
    Event.FAIL: Ending.FAILED,
    Event.RETRY: Ending.RETRY,
    Event.DROP: Ending.DROPPED,
    Event.LOSE: Ending.LOST,
    Event.GIVE_BACK: Ending.GIVEN_BACK,
}


class OvertakenError(TaskError):
    """Somebody changed a task between a look at it and the change; nothing is left of the transaction."""


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something, and why."""

    actor: str
    reason: str | None = None
    operation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a rescheduled task shall run, and as what."""

    device: str
    queue: str
    exporter_id: str | None = None
    local_aet: str | None = None
    destination: str | None = None
    #: The device must reach the files of the study.
    reads_files: bool = False
    destination_aet: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended, as its worker says."""

    event: Event
    #: Written to outcome_message.
    outcome: str | None = None
    #: Written to error_message.
    error: str | None = None
    #: For RETRY: how long to wait.
    delay: timedelta = timedelta(0)
    #: This ending counts as a failed attempt.
    counts: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task that this worker has taken for one run."""

    task: TaskView
    run_id: int
    came_from: Status
    node: str


def insert_tasks(session: Session, new: Sequence[NewTask], by: By) -> list[TaskView]:
    """Insert tasks as SCHEDULED, in the given order, and note their devices to be woken."""
    if not new:
        return []
    now = session.scalars(select(func.now())).one()
    values = [
        {**asdict(task), "status": Status.SCHEDULED.value, "scheduled_time": task.scheduled_time or now} for task in new
    ]
    columns = Task.__table__.columns
    made = session.execute(insert(_TABLE).returning(*columns, sort_by_parameter_order=True), values)
    views = [TaskView.of(row) for row in made.mappings()]
    for device, group in _grouped(views, lambda view: view.device).items():
        arrow = Arrow(Event.CREATE, None, Status.SCHEDULED, None, device, by.actor, None, by.reason, by.operation_id)
        session.execute(history.record(arrow, [view.id for view in group]))
    slots.wake(session, {view.device for view in views})
    return views


def hasten(session: Session, task_ids: Sequence[int], at: datetime | None) -> None:
    """Let waiting tasks start earlier than planned, if that is earlier; None: now. Writes no status."""
    earlier = func.now() if at is None else literal(at)
    waiting = Task.status.in_([status.value for status in state.WAITING])
    changed = session.scalars(
        update(Task)
        .where(Task.id == slots.ids(list(task_ids)), waiting, Task.scheduled_time > earlier)
        .values(scheduled_time=earlier, updated_time=func.now())
        .returning(Task.device)
    )
    slots.wake(session, set(changed))


def wait_no_more(session: Session, task_ids: Sequence[int]) -> None:
    """Let tasks be tried again like all others: somebody wants them who does not wait."""
    others = Task.params.op("-", return_type=JSONB)(literal(waited.UNTIL, Text))
    session.execute(update(Task).where(Task.id.in_(task_ids), Task.params.has_key(waited.UNTIL)).values(params=others))


def claim(
    session: Session, task_id: int, run_id: int, token: str, *, node: tuple[int, str], lease: timedelta
) -> Claimed | None:
    """Take a reserved task for one run; None if the message is stale or the task is not waiting any more.

    Args:
        session: the transaction.
        task_id: from the message.
        run_id: from the message.
        token: from the message; an older one than the reservation's is refused.
        node: id and name of the worker.
        lease: how long the run may stay without a heartbeat.
    """
    row = _locked(session, task_id)
    if row is None or not state.may(Status(row["status"]), Event.CLAIM):
        return None
    came_from = Status(row["status"])
    to = state.next_status(came_from, Event.CLAIM)
    values = {
        "task": task_id, "run": run_id, "token": token, "device": row["device"], "queue": row["queue"],
        "before": came_from, "after": to, "node": node[0], "actor": node[1], "lease": lease,
    }  # fmt: skip
    changed = session.execute(_CLAIM, values).mappings().one_or_none()
    return None if changed is None else Claimed(TaskView.of(changed), run_id, came_from, node[1])


# The arrow of CLAIM: the run is taken, the task follows, history notes it; all of it, or nothing.
_CLAIM = text(
    """
    WITH taken AS (
        UPDATE run SET claimed_at = clock_timestamp(), progress_at = clock_timestamp(), node_id = :node,
               lease_until = clock_timestamp() + :lease, came_from = :before
        WHERE id = :run AND task_id = :task AND token = CAST(:token AS uuid) AND device = :device AND queue = :queue
          AND claimed_at IS NULL AND ended_at IS NULL
        RETURNING id
    ), changed AS (
        UPDATE task SET status = :after, started_time = clock_timestamp(), ended_time = NULL,
               updated_time = clock_timestamp()
        WHERE id = :task AND status = :before AND EXISTS (SELECT 1 FROM taken)
        RETURNING *
    ), noted AS (
        INSERT INTO history (event, first_id, last_id, from_status, to_status, from_device, to_device, run_id, actor)
        SELECT 'claim', id, id, :before, :after, device, device, :run, :actor FROM changed
    )
    SELECT * FROM changed
    """
)


def report(session: Session, task_id: int, run_id: int, said: Report, by: By) -> Status | None:
    """End a run as its worker says; the task changes only if it is still the task of this run.

    Returns the task's new status, or None if the run had ended before, or the task was cancelled,
    rescheduled or deleted meanwhile: then only the run row ends.
    """
    row = _locked(session, task_id)
    run = session.execute(
        select(Run.came_from, Run.device).where(Run.id == run_id, Run.task_id == task_id, Run.ended_at.is_(None))
    ).one_or_none()
    if run is None:
        return None
    slots.wake(session, {run.device} | ({row["device"]} if row is not None else set()))
    before = Status(row["status"]) if row is not None else None
    if before is None or not state.may(before, said.event):
        slots.end(session, run_id, Ending.LOST if said.event is Event.LOSE else Ending.STOPPED)
        return None
    after = state.next_status(before, said.event, came_from=Status(run.came_from))
    values = {"task": task_id, "run": run_id, "before": before, "after": after, **_said(said, by)}
    if said.event in (Event.DROP, Event.FAIL) and row is not None and row["kind"] == marks.KIND:
        # A task that is done marks nothing: the study may be marked anew, if the rules let it go then.
        marks.clear(session, [task_id])
    return after if session.execute(_REPORT, values).one_or_none() is not None else None


# The arrows of all reports: the run ends, the task follows, history notes it; all of it, or nothing.
_REPORT = text(
    """
    WITH ended AS (
        UPDATE run SET ended_at = clock_timestamp(), ending = :ending WHERE id = :run AND ended_at IS NULL RETURNING id
    ), changed AS (
        UPDATE task SET status = :after, updated_time = clock_timestamp(),
               ended_time = CASE WHEN :given_back THEN ended_time ELSE clock_timestamp() END,
               outcome_message = coalesce(:outcome, outcome_message), error_message = coalesce(:error, error_message),
               failures = failures + :failed,
               lost_leases = CASE WHEN :given_back THEN lost_leases WHEN :lost THEN lost_leases + 1 ELSE 0 END,
               scheduled_time = coalesce(clock_timestamp() + CAST(:wait AS interval), scheduled_time)
        WHERE id = :task AND status = :before AND EXISTS (SELECT 1 FROM ended)
        RETURNING id, device
    )
    INSERT INTO history
        (event, first_id, last_id, from_status, to_status, from_device, to_device, run_id, actor, reason)
    SELECT :event, id, id, :before, :after, device, device, :run, :actor, :reason FROM changed
    RETURNING seq
    """
)


def _said(said: Report, by: By) -> dict[str, Any]:
    waits = {Event.RETRY: said.delay, Event.LOSE: timedelta(0)}
    return {
        "event": said.event.value,
        "ending": _ENDINGS[said.event].value,
        "outcome": said.outcome,
        "error": said.error,
        "failed": int(said.counts),
        # A task that is given back is as if this run had never been.
        "given_back": said.event is Event.GIVE_BACK,
        "lost": said.event is Event.LOSE or said.reason == LOST_TOO_OFTEN,
        "wait": waits.get(said.event),
        "actor": by.actor,
        "reason": said.reason or said.error or said.outcome,
    }


#: Reason of a FAIL by a spent budget of lost leases: the count is kept, to be read.
LOST_TOO_OFTEN = "lost too often"


def lose(session: Session, task_id: int, run_id: int, budgets: Mapping[tuple[str, str], int], by: By) -> Status | None:
    """End a run whose lease is over or whose process died; its task goes back, or FAILED when lost too often.

    Args:
        session: the transaction.
        task_id: the run's task; it may be gone.
        run_id: the run.
        budgets: (device, queue) to arcTaskMaxLostLeases.
        by: who found it, and how.
    """
    row = _locked(session, task_id)
    if row is not None and row["status"] == Status.IN_PROCESS:
        budget = budgets.get((row["device"], row["queue"]), 3)
        if row["lost_leases"] + 1 >= budget:
            why = f"{by.reason or 'the lease was lost'}; lost {row['lost_leases'] + 1} times in a row, at most {budget}"
            return report(session, task_id, run_id, Report(Event.FAIL, error=why, reason=LOST_TOO_OFTEN), by)
    return report(session, task_id, run_id, Report(Event.LOSE, reason=by.reason), by)


def cancel(session: Session, tasks: Sequence[Taken], by: By, *, outcome: str | None = None) -> int:
    """Cancel locked tasks that are not done, and ask their runs to stop; their marks are taken back.

    Args:
        session: the transaction.
        tasks: as `take` returned them.
        by: who, and why.
        outcome: written to outcome_message.
    """
    chosen = [task for task in tasks if state.may(task.status, Event.CANCEL)]
    return cancel_alike(session, alike(chosen), by, outcome=outcome)


def cancel_alike(session: Session, groups: Sequence[Alike], by: By, *, outcome: str | None = None) -> int:
    """Cancel tasks, none of them done, those that are alike together.

    Raises:
        OvertakenError: somebody changed one of them; roll back, take them with a lock and try again.
    """
    marks.clear(session, marks.deleting_alike(groups))
    values = {"outcome_message": outcome} if outcome else {}
    for group in groups:
        # Nothing has ended of a task that did not run; the report of a run that is canceled changes its task no more.
        ended = {"ended_time": func.now()} if group.sort.status is Status.IN_PROCESS else {}
        _write(session, group, Event.CANCEL, values | ended)
    return _follow(session, [(group, group.sort.device) for group in groups], Event.CANCEL, Stop.CANCEL, by)


def reschedule(session: Session, moves: Sequence[tuple[Taken, Target]], by: By, changes: Mapping[str, Any]) -> int:
    """Schedule locked tasks anew, each where its target says; running ones are asked to stop first."""
    grouped = _grouped(moves, lambda move: move[1])
    alike_moves = [(group, target) for target, some in grouped.items() for group in alike(task for task, _ in some)]
    return reschedule_alike(session, alike_moves, by, changes)


def reschedule_alike(
    session: Session, moves: Sequence[tuple[Alike, Target]], by: By, changes: Mapping[str, Any]
) -> int:  # fmt: skip
    """Schedule tasks anew, those that are alike and have the same target together.

    Args:
        session: the transaction.
        moves: tasks with their target.
        by: who, and why.
        changes: further columns to write, such as scheduled_time; failures and messages are cleared
            unless `keep` is said by leaving them out (see `operations.reschedule`).

    Raises:
        OvertakenError: somebody changed one of them; roll back, take them with a lock and try again.
    """
    for group, target in moves:
        values = {
            "device": target.device,
            "queue": target.queue,
            "exporter_id": target.exporter_id,
            "local_aet": target.local_aet,
            "destination": target.destination,
            "destination_aet": target.destination_aet,
            "round": Task.round + _starts_anew(target),
            "ended_time": None,
            "started_time": None,
            **changes,
        }
        _write(session, group, Event.RESCHEDULE, values)
    return _follow(session, [(group, target.device) for group, target in moves], Event.RESCHEDULE, Stop.RESCHEDULE, by)


def _starts_anew(target: Target) -> ColumnElement[int]:
    # What a COMPLETED task sent is sent again; so is everything when the destination is another one.
    done = Task.status.in_([Status.COMPLETED.value, Status.WARNING.value])
    other = Task.exporter_id.is_distinct_from(literal(target.exporter_id))
    # An exporter of the same name may lead elsewhere on another device.
    elsewhere = Task.destination.is_distinct_from(literal(target.destination))
    return cast(done | other | elsewhere, Integer)


def delete_tasks(session: Session, tasks: Sequence[Taken], by: By) -> int:
    """Delete locked tasks of any status; their runs are asked to stop, marks taken back, history stays."""
    return delete_alike(session, alike(tasks), by)


def delete_alike(session: Session, groups: Sequence[Alike], by: By) -> int:
    """Delete tasks of any status, those that are alike together.

    Raises:
        OvertakenError: somebody changed one of them; roll back, take them with a lock and try again.
    """
    marks.clear(session, marks.deleting_alike(groups))
    for group in groups:
        _done_to_all(session, group, delete(_TABLE).where(group.condition))
    return _follow(session, [(group, None) for group in groups], Event.DELETE, Stop.DELETE, by)


def note_progress(session: Session, task_id: int, run_id: int, progress: Mapping[str, Any]) -> None:
    """Write the progress of a run to its task, if it still is the task of this run. Writes no status."""
    alive = select(Run.id).where(Run.id == run_id, Run.ended_at.is_(None)).exists()
    session.execute(
        update(Task)
        .where(Task.id == task_id, Task.status == Status.IN_PROCESS.value, alive)
        .values(progress=dict(progress))
    )
    session.execute(update(Run).where(Run.id == run_id, Run.ended_at.is_(None)).values(progress_at=NOW))


def _write(session: Session, group: Alike, event: Event, values: Mapping[str, Any]) -> None:
    to = state.next_status(group.sort.status, event)
    assert to is not None  # noqa: S101 - events of this function lead to a status
    statement = update(_TABLE).where(group.condition)
    _done_to_all(session, group, statement.values(status=to.value, updated_time=func.now(), **values))


def _done_to_all(session: Session, group: Alike, statement: Update | Delete) -> None:
    number = typing.cast("CursorResult[Any]", session.execute(statement)).rowcount
    if number != len(group.ids):
        raise OvertakenError(f"{len(group.ids) - number} of {len(group.ids)} tasks were changed by somebody else")


def _follow(session: Session, moves: Sequence[tuple[Alike, str | None]], event: Event, stop: Stop, by: By) -> int:
    """Stop the runs of tasks that were changed, note it in their history, and wake the devices where they are now."""
    # A run may still be ending although its task is done: only a cancel leaves it alone.
    may_run = [group.ids for group, _ in moves if event is not Event.CANCEL or not group.sort.status.is_done]
    slots.ask_to_stop(session, list(itertools.chain.from_iterable(may_run)), stop, by.reason)
    arrows: dict[Arrow, list[int]] = defaultdict(list)
    for group, device in moves:
        before = group.sort
        to = state.next_status(before.status, event)
        arrow = Arrow(event, before.status, to, before.device, device, by.actor, None, by.reason, by.operation_id)
        arrows[arrow] += group.ids
    for arrow, ids in arrows.items():
        session.execute(history.record(arrow, sorted(ids)))
    slots.wake(session, {device for _, device in moves if device is not None})
    return sum(len(group.ids) for group, _ in moves)


def _locked(session: Session, task_id: int) -> RowMapping | None:
    query = select(Task.__table__).where(Task.id == task_id).with_for_update()
    return session.execute(query).mappings().one_or_none()


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
