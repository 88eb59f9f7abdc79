"""Gather what was recorded in a cluster: history, runs, tasks, and the trace of sub-operations."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive import configuration
from tasks import history
from tasks.history import History
from tasks.record import Task
from tasks.run import Run
from tests.lab.checker import Evidence, Mark, RunFacts


def gather(session: Session, trace_file: Path | None) -> Evidence:
    """Return all evidence of a cluster."""
    rows = session.scalars(select(History).order_by(History.seq))
    runs = session.scalars(select(Run).order_by(Run.id))
    return Evidence(
        statuses={row.id: row.status for row in session.execute(select(Task.id, Task.status))},
        transitions=[transition for row in rows for transition in history.expand(row)],
        runs=[_facts(run) for run in runs],
        marks=read_trace(trace_file) if trace_file is not None else [],
        limits={
            (device.name, queue.name): queue.max_tasks_parallel
            for device in configuration.current().ours.values()
            for queue in device.queues.values()
        },
    )


def read_trace(file: Path) -> list[Mark]:
    """Return the marks that runs left, in the order of time; a line that a kill cut off is left out."""
    if not file.exists():
        return []
    marks = []
    for line in file.read_text().split("\n")[:-1]:
        what, at_ns, task_id, run_id, pid, sop_uid = line.split(" ")
        marks.append(Mark(what, int(at_ns), int(task_id), int(run_id), int(pid), sop_uid))
    return sorted(marks, key=lambda mark: mark.at_ns)


def _facts(run: Run) -> RunFacts:
    return RunFacts(
        run.id, run.task_id, run.device, run.queue, run.slot, run.came_from,
        run.reserved_at, run.claimed_at, run.ended_at, run.ending,
    )  # fmt: skip
