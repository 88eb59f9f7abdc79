"""What comparisons found: the studies that are missing or different, as data sets, by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, Select, Text, delete, exists, func, insert, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from archive.db import Base
from tasks.query import TaskQuery
from tasks.record import Instant, Task
from tasks.run import Run

KIND = "DIFF"


class What(StrEnum):
    """How a study differs."""

    #: The secondary AE does not have it.
    MISSING = "missing"
    #: It has it with other attributes.
    DIFFERENT = "different"


class DiffResult(Base):
    """One study that is missing or different; those of the task's last run count."""

    __tablename__ = "diff_result"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    task_id: Mapped[int] = mapped_column(BigInteger, comment="no foreign key: rows of deleted tasks are swept later")
    run_id: Mapped[int] = mapped_column(BigInteger, comment="run that found it")
    study_uid: Mapped[str] = mapped_column(Text)
    what: Mapped[str] = mapped_column(Text, comment="missing or different")
    dataset: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="DICOM JSON: primary's, with the secondary's inside")
    at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())

    __table_args__ = (Index("ix_diff_result_task", "task_id", "id"),)


@dataclass(frozen=True, slots=True)
class Found:
    """One study that a run found."""

    study_uid: str
    what: What
    #: In the DICOM JSON model (PS3.18 F.2).
    dataset: dict[str, Any]


def forget(session: Session, task_id: int, run_id: int) -> None:
    """Remove what earlier runs of a task found, unless this run has ended meanwhile."""
    session.execute(delete(DiffResult).where(DiffResult.task_id == task_id, _is_open(run_id)))


def keep(session: Session, task_id: int, run_id: int, found: Sequence[Found]) -> None:
    """Keep what a run found, unless it has ended meanwhile."""
    if found and session.scalar(select(_is_open(run_id))):
        rows = [
            {"task_id": task_id, "run_id": run_id, "study_uid": one.study_uid, "what": one.what.value,
             "dataset": one.dataset}
            for one in found
        ]  # fmt: skip
        session.execute(insert(DiffResult), rows)


def of_task(session: Session, task_id: int, *, offset: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the data sets that a task found, in the order in which it found them."""
    found = select(DiffResult.dataset).where(DiffResult.task_id == task_id).order_by(DiffResult.id)
    return list(session.scalars(_page(found, offset, limit)))


def of_tasks(
    session: Session, wanted: TaskQuery, *, offset: int = 0, limit: int | None = None
) -> list[dict[str, Any]] | None:
    """Return the data sets that the comparisons among these tasks found; None: there is no comparison among them."""
    conditions = [*wanted.conditions(), Task.kind == KIND]
    if not session.scalar(select(exists().where(*conditions))):
        return None
    found = (
        select(DiffResult.dataset)
        .join(Task, Task.id == DiffResult.task_id)
        .where(*conditions)
        .order_by(DiffResult.task_id, DiffResult.id)
    )
    return list(session.scalars(_page(found, offset, limit)))


def _page(found: Select[tuple[dict[str, Any]]], offset: int, limit: int | None) -> Select[tuple[dict[str, Any]]]:
    return found.offset(offset).limit(limit)


def _is_open(run_id: int) -> Any:
    return exists().where(Run.id == run_id, Run.ended_at.is_(None))
