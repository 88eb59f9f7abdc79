"""Which tasks keep which studies from deletion, and what becomes of the marks of a study that a task will read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from archive.deletion import marking
from archive.deletion.rules import Mark, Pin
from archive.model import StudyOnFileSystem
from tasks import slots
from tasks.marks import KIND
from tasks.record import Task
from tasks.registry import reading_kinds
from tasks.run import Run
from tasks.state import DONE, Status
from tasks.taking import Alike


class _Task(Protocol):
    @property
    def kind(self) -> str: ...

    @property
    def study_uid(self) -> str | None: ...


class TaskSide:
    """What the rules of deletion ask tasks."""

    def pins(self, session: Session, study_uids: Collection[str]) -> Mapping[str, Sequence[Pin]]:
        """Return the tasks that read these studies: waiting, retrying, running, or still ending."""
        found: dict[str, dict[int, Pin]] = defaultdict(dict)
        reading = reading_kinds()
        not_done = [status.value for status in Status if status not in DONE]
        tasks = session.execute(
            select(Task.study_uid, Task.id, Task.kind, Task.status, Task.scheduled_time).where(
                Task.study_uid.in_(study_uids), Task.kind.in_(reading), Task.status.in_(not_done)
            )
        )
        for study_uid, task_id, kind, status, due in tasks:
            never_ran = status == Status.SCHEDULED
            found[study_uid or ""][task_id] = Pin(task_id, kind, status, due if never_ran else None)
        runs = session.execute(
            select(Run.study_uid, Run.task_id, Run.kind).where(
                Run.ended_at.is_(None), Run.claimed_at.is_not(None), Run.study_uid.in_(study_uids),
                Run.kind.in_(reading),
            )
        )  # fmt: skip
        for study_uid, task_id, kind in runs:
            found[study_uid or ""][task_id] = Pin(task_id, kind, "running")
        return {uid: tuple(pins[task_id] for task_id in sorted(pins)) for uid, pins in found.items()}

    def marks(self, session: Session, task_ids: Collection[int]) -> Mapping[int, Mark]:
        """Return those of these tasks that have not ended: a mark counts only as long as its task may delete."""
        rows = session.scalars(
            select(Task.id).where(
                Task.id.in_(task_ids),
                Task.kind == KIND,
                Task.status.in_([status.value for status in Status if status not in DONE]),
            )
        )
        return {task_id: Mark(task_id) for task_id in rows}


def mark_counts() -> ColumnElement[bool]:
    """Return the condition that the mark of a ledger row counts: its task may still delete."""
    return (
        select(Task.id)
        .where(
            Task.id == StudyOnFileSystem.mark_task_id,
            Task.kind == KIND,
            Task.status.not_in([status.value for status in DONE]),
        )
        .exists()
    )


def give_back_marks(session: Session, tasks: Iterable[_Task]) -> None:
    """Take back the marks of the studies that these tasks are about to read."""
    reading = reading_kinds()
    study_uids = {task.study_uid for task in tasks if task.study_uid and task.kind in reading}
    if study_uids:
        marking.give_back_studies(session, study_uids)


def give_back_marks_of(session: Session, groups: Iterable[Alike]) -> None:
    """Take back the marks of the studies that these tasks are about to read; without marks it costs nothing."""
    reading = reading_kinds()
    task_ids = [task_id for group in groups if group.sort.kind in reading for task_id in group.ids]
    if task_ids and marking.are_any(session):
        wanted = select(Task.study_uid).where(
            Task.id == slots.ids(task_ids), Task.study_uid.in_(marking.marked_studies())
        )
        marking.give_back_studies(session, {uid for uid in session.scalars(wanted.distinct()) if uid is not None})
