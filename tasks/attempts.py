"""What became of a task's runs, and of each object in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tasks.control import WorkerNode
from tasks.outcome import CONFIRMED
from tasks.run import ObjectOutcomeRow, Run


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a task."""

    run: Run
    #: The worker that claimed it.
    worker: str | None


@dataclass(frozen=True, slots=True)
class ObjectAttempt:
    """How one object ended in one run."""

    run_id: int
    sop_uid: str
    result: str
    status_code: int | None
    text: str | None
    at: datetime


def of_task(session: Session, task_id: int) -> list[Attempt]:
    """Return all runs of a task that are kept, newest first."""
    query = select(Run, WorkerNode.name).outerjoin(WorkerNode, WorkerNode.id == Run.node_id)
    rows = session.execute(query.where(Run.task_id == task_id).order_by(Run.id.desc())).all()
    return [Attempt(run, name) for run, name in rows]


def count_objects(session: Session, task_id: int) -> dict[str, int]:
    """Return how many objects of a task ended how, in all of its runs."""
    query = select(ObjectOutcomeRow.result, func.count()).where(ObjectOutcomeRow.task_id == task_id)
    rows: Sequence[Sequence[object]] = session.execute(query.group_by(ObjectOutcomeRow.result)).all()
    return {str(result): int(str(number)) for result, number in rows}


def objects(session: Session, task_id: int, *, offset: int, limit: int) -> list[ObjectAttempt]:
    """Return how objects of a task ended: what did not arrive first, then newest first."""
    row = ObjectOutcomeRow
    arrived = row.result.in_([result.value for result in CONFIRMED])
    query = select(row.run_id, row.sop_uid, row.result, row.status_code, row.text, row.at)
    page = query.where(row.task_id == task_id).order_by(arrived, row.id.desc()).offset(offset).limit(limit)
    return [ObjectAttempt(*found) for found in session.execute(page).all()]
