"""What tests are made of: a small cluster, tasks in any status, and runs that were claimed without a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
from sqlalchemy import text

from archive import configuration, db
from config.device import ApplicationEntity, Cluster, Device, Exporter, Queue
from tasks import bulk, history, query, slots, store, taking
from tasks.outcome import Outcome
from tasks.record import NewTask, TaskView
from tasks.slots import Reservation
from tasks.state import Event, Status
from tasks.store import By, Claimed, Report

BY = By("tester@localhost", "test")
LEASE = timedelta(seconds=60)
NODE = (1, "archive-a.1@host")

EXPORT = Queue("Export", max_tasks_parallel=4, max_retries=3, retry_delay=timedelta(seconds=30))
NOOP = Exporter("Noop", "noop:", "Export")


def device(name: str = "archive-a", **values: Any) -> Device:
    """Return a device of ours with the queue Export, the exporter Noop and the AE ARCHIVE_A (or _B)."""
    title = name.upper().replace("-", "_")
    given: dict[str, Any] = {
        "queues": {EXPORT.name: EXPORT},
        "exporters": {NOOP.id: NOOP},
        "aes": {title: ApplicationEntity(title, other_titles=("ARCFLEET",))},
        "is_ours": True,
        "is_archive": True,
        **values,
    }
    return Device(name, **given)


def cluster(*devices: Device) -> Cluster:
    """Return a cluster of these devices, else of archive-a and archive-b."""
    chosen = devices or (device(), device("archive-b"))
    return Cluster(MappingProxyType({one.name: one for one in chosen}))


def use_cluster(*devices: Device) -> Cluster:
    """Make a cluster the configuration of this process; the fixture `database` users must reset it themselves."""
    made = cluster(*devices)
    configuration.use(made)
    return made


def new_task(**values: Any) -> NewTask:
    """Return an EXPORT task for archive-a."""
    plain = NewTask("EXPORT", "archive-a", "Export", exporter_id="Noop", study_uid="1.2.3")
    return replace(plain, **values)


def insert(number: int = 1, **values: Any) -> list[TaskView]:
    """Insert so many equal tasks."""
    with db.transaction() as session:
        return store.insert_tasks(session, [new_task(**values)] * number, BY)


def reserve(device: str = "archive-a", queue: str = "Export", number: int = 4) -> list[Reservation]:
    """Reserve slots as the dispatcher does."""
    with db.transaction() as session:
        return slots.reserve(session, device, queue, number)


def claim(reservation: Reservation, *, lease: timedelta = LEASE) -> Claimed | None:
    """Claim a reservation as a worker does."""
    with db.transaction() as session:
        return store.claim(session, reservation.task_id, reservation.run_id, reservation.token, node=NODE, lease=lease)


def running(*, lease: timedelta = LEASE, **values: Any) -> Claimed:
    """Insert a task and claim it: it is IN PROCESS. Nothing else may be due in its queue."""
    [task] = insert(**values)
    claimed = claim(*reserve(task.device, task.queue, 30), lease=lease)
    assert claimed is not None
    assert claimed.task.id == task.id
    return claimed


def report(claimed: Claimed, event: Event, **values: Any) -> Status | None:
    """Report the end of a run."""
    with db.transaction() as session:
        return store.report(session, claimed.task.id, claimed.run_id, Report(event, **values), By(claimed.node))


#: Which report leads from IN PROCESS to each status that a run can lead to.
_REPORTS = {
    Status.COMPLETED: Event.SUCCEED,
    Status.WARNING: Event.WARN,
    Status.FAILED: Event.FAIL,
    Status.SCHEDULED_FOR_RETRY: Event.RETRY,
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A task that was brought into a status, with the run that did it."""

    task_id: int
    #: The run that brought it there; None: it never ran.
    run: Claimed | None


def placed(status: Status, **values: Any) -> Placed:
    """Make a task and bring it into a status through the store."""
    if status in (Status.SCHEDULED, Status.CANCELED):
        [task] = insert(**values)
        if status is Status.CANCELED:
            change(Event.CANCEL, task.id)
        return Placed(task.id, None)
    claimed = running(**values)
    if status is not Status.IN_PROCESS:
        report(claimed, _REPORTS[status])
    return Placed(claimed.task.id, claimed)


def change(event: Event, task_id: int, target: store.Target | None = None) -> int:
    """Cancel, reschedule or delete one task; returns how many were changed."""
    with db.transaction() as session:
        taken = taking.take(session, query.TaskQuery(ids=(task_id,)).conditions(), 0, 1)
        match event:
            case Event.CANCEL:
                return store.cancel(session, taken, BY)
            case Event.RESCHEDULE:
                where = target or store.Target("archive-a", "Export", "Noop")
                return store.reschedule(session, [(task, where) for task in taken], BY, {})
            case _:
                return store.delete_tasks(session, taken, BY)


def view(task_id: int) -> TaskView | None:
    """Return a task as it is now."""
    with db.transaction() as session:
        return query.get(session, task_id)


def views() -> list[TaskView]:
    """Return all tasks by id."""
    with db.transaction() as session:
        return sorted(query.find(session, query.TaskQuery()), key=lambda task: task.id)


def status_of(task_id: int) -> Status | None:
    """Return the status of a task; None: it is gone."""
    found = view(task_id)
    return None if found is None else found.status


def arrows_of(task_id: int) -> list[tuple[str | None, str, str | None]]:
    """Return what happened to a task: (from, event, to), oldest first."""
    with db.transaction() as session:
        return [(t.from_status, t.event, t.to_status) for t in history.of_task(session, task_id)]


def run_row(run_id: int) -> Mapping[str, Any]:
    """Return the row of a run."""
    with db.transaction() as session:
        return session.execute(text("SELECT * FROM run WHERE id = :id"), {"id": run_id}).mappings().one()  # type: ignore[return-value]


def sql(statement: str, **values: Any) -> list[Any]:
    """Run a statement, for example to move times; returns the first column of what it returns."""
    with db.transaction() as session:
        result: Any = session.execute(text(statement), values)
        return list(result.scalars()) if result.returns_rows else []


def small_chunks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let a bulk call take so many tasks in each transaction."""
    monkeypatch.setattr(bulk, "_FIRST_CHUNK", size)
    monkeypatch.setattr(bulk, "_next_size", lambda size, took_s: size)


def empty() -> None:
    """Delete all rows about tasks; ids go on."""
    for table in _TABLES:
        sql(f"DELETE FROM {table}")


_TABLES = (
    "task", "run", "object_outcome", "history", "worker_node", "pause", "destination", "leader", "housekeeping_job",
    "accepted_message", "idempotency_key", "operation", "diff_result", "failover",
)  # fmt: skip


def seen_worker(device: str = "archive-a", channel: str | None = None) -> int:
    """Insert a worker that was seen just now; returns its id."""
    return int(
        sql(
            "INSERT INTO worker_node (name, device, channel, host, pid, version, concurrency)"
            " VALUES (:name, :device, :channel, 'host', 1, '0', 1) RETURNING id",
            name=f"{device}.1@host", device=device, channel=channel or device,
        )[0]
    )  # fmt: skip


def completed(text: str = "done") -> Outcome:
    """Return a good outcome."""
    return Outcome(Status.COMPLETED, text)
