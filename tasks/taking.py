"""The tasks that a change is about: a few, each with its row, or thousands, those that are alike together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from archive.query import Entity
from tasks import slots
from tasks.record import Task
from tasks.state import Status

#: What a decision goes by; tasks in which all of it is equal are alike.
_SORT = (
    Task.kind, Task.status, Task.device, Task.queue, Task.exporter_id, Task.local_aet, Task.remote_aet,
    Task.destination_aet,
)  # fmt: skip

#: Columns of a task that is looked at by itself.
_TAKEN = (Task.id, *_SORT, Task.study_uid, Task.series_uid, Task.sop_uid, Task.scheduled_time)


@dataclass(frozen=True, slots=True)
class Taken:
    """A locked task row, as far as a decision about it needs it."""

    id: int
    kind: str
    status: Status
    device: str
    queue: str
    exporter_id: str | None
    local_aet: str | None
    remote_aet: str | None
    destination_aet: str | None
    study_uid: str | None
    series_uid: str | None
    sop_uid: str | None
    scheduled_time: datetime


class Sort(NamedTuple):
    """What a decision goes by."""

    kind: str
    status: Status
    device: str
    queue: str
    exporter_id: str | None
    local_aet: str | None
    remote_aet: str | None
    destination_aet: str | None


@dataclass(frozen=True, slots=True)
class Alike:
    """Tasks of one sort, by their ids in ascending order."""

    sort: Sort
    ids: list[int]
    #: What must still hold when they are changed; None: they are locked.
    guard: ColumnElement[bool] | None = field(default=None, compare=False)

    def only(self, ids: list[int]) -> Alike:
        """Return some of them."""
        return Alike(self.sort, ids, self.guard)

    @property
    def condition(self) -> ColumnElement[bool]:
        """Return what selects them, as they were when they were looked at."""
        chosen = Task.id == slots.ids(self.ids)
        return chosen if self.guard is None else and_(chosen, self.guard)


def take(
    session: Session, conditions: Iterable[ColumnElement[bool]], after_id: int, limit: int, *, lock: bool = True
) -> list[Taken]:
    """Return (and lock) the next matching tasks above an id, in the order of ids."""
    query = select(*_TAKEN).where(*conditions, Task.id > after_id).order_by(Task.id).limit(limit)
    rows: Sequence[Sequence[Any]] = session.execute(query.with_for_update() if lock else query).all()
    return [Taken(row[0], row[1], Status(row[2]), *row[3:]) for row in rows]


def take_alike(
    session: Session, conditions: Sequence[ColumnElement[bool]], after_id: int, limit: int, *, lock: bool
) -> list[Alike]:
    """Return the next matching tasks above an id, those that are alike together.

    Without a lock they carry a guard: who changes them finds out whether somebody was faster. That costs a
    fifth less than locking each row before it is changed.
    """
    chosen = select(Task.id, *_SORT).where(*conditions, Task.id > after_id).order_by(Task.id).limit(limit)
    rows = (chosen.with_for_update() if lock else chosen).cte("taken")
    sort = [rows.c[column.key] for column in _SORT]
    found: Sequence[Sequence[Any]] = session.execute(
        select(func.array_agg(rows.c.id), *sort).group_by(*sort).order_by(func.min(rows.c.id))
    ).all()
    groups = []
    for ids, kind, status, *rest in found:
        of_group = Sort(kind, Status(status), *rest)
        groups.append(Alike(of_group, sorted(ids), None if lock else _unchanged(of_group, conditions)))
    return groups


def alike(tasks: Iterable[Taken]) -> list[Alike]:
    """Return locked tasks, those that are alike together."""
    groups: dict[Sort, list[int]] = {}
    for task in tasks:
        sort = Sort(
            task.kind, task.status, task.device, task.queue, task.exporter_id, task.local_aet, task.remote_aet,
            task.destination_aet,
        )  # fmt: skip
        groups.setdefault(sort, []).append(task.id)
    return [Alike(sort, sorted(ids)) for sort, ids in groups.items()]


def entities(session: Session, task_ids: Sequence[int]) -> Iterator[tuple[int, Entity]]:
    """Yield the id of each of these tasks that is about a study, and what it is about."""
    rows = session.execute(
        select(Task.id, Task.study_uid, Task.series_uid, Task.sop_uid).where(
            Task.id == slots.ids(task_ids), Task.study_uid.is_not(None)
        )
    )
    for task_id, study_uid, series_uid, sop_uid in rows:
        yield task_id, Entity(study_uid or "", series_uid, sop_uid)


def _unchanged(sort: Sort, conditions: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    same = [column.is_not_distinct_from(value) for column, value in zip(_SORT, sort, strict=True)]
    # As a value, so that the database finds the rows by their ids and by nothing else.
    return and_(*same, *conditions).is_(True)
