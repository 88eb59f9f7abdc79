"""What one asks of a cluster: schedule tasks, look at them and their runs, wait for them, prove that all is well."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from archive import db
from archive.storage import importing
from tasks import operations, query, slots
from tasks.control import WorkerNode
from tasks.query import TaskQuery
from tasks.record import NewTask, TaskView
from tasks.run import Run
from tasks.state import Status
from tasks.store import By
from tests.lab import checker, dicom, evidence
from tests.lab.member import Member
from tests.lab.waiting import PATIENCE_S, wait_until

T = TypeVar("T")

#: Who schedules in a lab.
BY = By("lab@localhost")


class Board:
    """The tasks of a cluster that this process belongs to."""

    def __init__(self, home: Path, trace_file: Path) -> None:
        self.home = home
        self.trace_file = trace_file

    def describe(self) -> str:
        """Return what a reader of a failed test wants to know."""
        raise NotImplementedError

    def schedule(
        self, number: int = 1, device: str = "archive-a", exporter: str = "Noop", **values: object
    ) -> list[int]:
        """Schedule EXPORT tasks and return their ids."""
        found = operations.our_device(device)
        new = NewTask("EXPORT", found.name, "", exporter_id=exporter, **{"study_uid": "1.2.3", **values})  # type: ignore[arg-type]
        return [task.id for task in operations.schedule_all([new] * number, BY)]

    def store_study(self, device: str, *, objects: int) -> str:
        """Store and index a new study with small objects at a device; returns its UID."""
        with tempfile.TemporaryDirectory(prefix="arcfleet-study-") as name:
            study_uid = dicom.write_study(Path(name), objects)
            done = importing.import_folder(operations.our_device(device), Path(name), home=self.home)
        assert done.stored == objects, f"{done}"
        return study_uid

    def multiply(self, task_id: int, number: int) -> None:
        """Copy a waiting task so many times, in one statement and without history: a large backlog at once."""
        columns = "kind, device, queue, status, scheduled_time, exporter_id, study_uid"
        copy = f"INSERT INTO task ({columns}) SELECT {columns} FROM task, generate_series(1, :n) WHERE id = :id"
        self.ask(lambda session: session.execute(text(copy), {"n": number, "id": task_id}) and None)

    def task(self, task_id: int) -> TaskView:
        """Return a task."""
        found = self.ask(lambda session: query.get(session, task_id))
        assert found is not None, f"task {task_id} is gone"
        return found

    def runs(self, task_id: int) -> list[Run]:
        """Return all runs of a task, oldest first."""
        return self.ask(
            lambda session: list(session.scalars(select(Run).where(Run.task_id == task_id).order_by(Run.id)))
        )

    def count(self, **wanted: object) -> dict[Status, int]:
        """Return the number of tasks by status; arguments are those of `TaskQuery`."""
        return self.ask(lambda session: query.count_by_status(session, TaskQuery(**wanted)))  # type: ignore[arg-type]

    def ask(self, work: Callable[[Session], T]) -> T:
        """Do this in a transaction, again while the database is away."""
        return db.insist(work, for_s=PATIENCE_S)

    def await_status(self, task_ids: Collection[int], status: Status, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until all these tasks have that status."""
        ids = tuple(task_ids)
        wait_until(
            lambda: self.count(ids=ids).get(status, 0) == len(ids),
            f"{len(ids)} tasks are {status}",
            timeout_s=timeout_s,
            say=lambda: f"They are {self.count(ids=ids)}; {self.describe()}",
        )

    def await_done(self, *, at_least: int) -> None:
        """Wait until so many tasks of the cluster are COMPLETED."""
        wait_until(
            lambda: self.count().get(Status.COMPLETED, 0) >= at_least,
            f"{at_least} tasks are COMPLETED",
            say=lambda: f"They are {self.count()}; {self.describe()}",
        )

    def await_end(self, run: Run) -> Run:
        """Wait until a run has ended, in whatever way; returns its row as it is then."""
        wait_until(lambda: self.has_ended(run), f"run {run.id} of task {run.task_id} has ended", say=self.describe)
        return next(one for one in self.runs(run.task_id) if one.id == run.id)

    def await_run_at(self, worker: Member) -> Run:
        """Wait until a worker has a run; returns it."""
        found = wait_until(lambda: self.run_at(worker), f"{worker.name} has a run", say=self.describe)
        assert found is not None
        return found

    def await_idle(self) -> None:
        """Wait until no run is open, neither waiting for its worker nor at work."""
        wait_until(lambda: not self.ask(slots.open_runs), "no run is open", say=self.describe)

    def await_running(self, task_id: int, *, after: Run | None = None) -> Run:
        """Wait until a worker runs the task and has begun a sub-operation; returns the run, one later than `after`."""
        least = after.id + 1 if after is not None else 0

        def begun() -> Run | None:
            found = [run for run in self.runs(task_id) if run.id >= least and run.claimed_at and not run.ended_at]
            return next((run for run in found if self.process_of(run.id) is not None), None)

        found = wait_until(begun, f"task {task_id} runs", say=self.describe)
        assert found is not None
        return found

    def run_at(self, worker: Member) -> Run | None:
        """Return a run that this worker has now, or None."""
        at_work = (
            select(Run)
            .join(WorkerNode, WorkerNode.id == Run.node_id)
            .where(WorkerNode.pid == worker.pid, Run.ended_at.is_(None))
        )
        return self.ask(lambda session: session.scalars(at_work.limit(1)).first())

    def has_ended(self, run: Run) -> bool:
        """Tell whether a run has ended, in whatever way."""
        return any(one.id == run.id and one.ended_at is not None for one in self.runs(run.task_id))

    def process_of(self, run_id: int) -> int | None:
        """Return the process that began sub-operations of a run; None: none has."""
        marks = [mark for mark in evidence.read_trace(self.trace_file) if mark.run_id == run_id]
        return marks[-1].pid if marks else None

    def begins(self, task_id: int) -> list[checker.Mark]:
        """Return what the task's runs have begun, in the order of time."""
        return [m for m in evidence.read_trace(self.trace_file) if m.task_id == task_id and m.what == "begin"]

    def prove(self, *, all_done: bool = True) -> checker.Evidence:
        """Prove from all that was recorded that nothing went wrong; returns what was looked at.

        Raises:
            AssertionError: something did; each fault is named.
        """
        seen = self.ask(lambda session: evidence.gather(session, self.trace_file))
        found = checker.faults(seen, all_done=all_done)
        assert not found, f"{len(found)} faults:\n" + "\n".join(map(str, found[:20]))
        return seen
