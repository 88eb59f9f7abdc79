"""One filter for tasks: for a single one, for lists, counts, CSV and bulk changes alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Select,
    Text,
    cast,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from tasks import slots
from tasks.record import Task, TaskView
from tasks.state import WAITING, Status

#: So many matching tasks are read and sorted in about 10 ms: of a day, which lie side by side; of an AE title or a
#: parameter, which are strewn over the table.
_FEW = 20_000
_FEW_STREWN = 10_000

#: Rows that a list reads from the database at once.
FETCH_SIZE = 1000


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Which tasks are meant; every field that is not empty must match."""

    ids: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    batch_id: str | None = None
    exporter_ids: tuple[str, ...] = ()
    local_aet: str | None = None
    remote_aet: str | None = None
    destination_aet: str | None = None
    study_uid: str | None = None
    #: Inclusive bounds; None: open.
    created: tuple[datetime | None, datetime | None] = (None, None)
    updated: tuple[datetime | None, datetime | None] = (None, None)
    #: Who asked for the task.
    requester_user: str | None = None
    #: Parameters of the task with their values; False is also what is not set.
    params: tuple[tuple[str, str | bool], ...] = ()

    #: Fields that do not narrow a request down: they come from its path.
    _FROM_PATH = frozenset({"kinds", "queues"})

    @property
    def is_unfiltered(self) -> bool:
        """Tell whether nothing but the path narrows this down: bulk changes then want `all=true`."""
        empty = ((), None, (None, None))
        return all(getattr(self, f.name) in empty for f in fields(self) if f.name not in self._FROM_PATH)

    @property
    def is_of_queue(self) -> bool:
        """Tell whether tasks of one queue are meant, of whatever kind."""
        return len(self.queues) == 1 and not self.kinds

    @property
    def is_searched(self) -> bool:
        """Tell whether a title or a text is asked for that few tasks may have; a flag is true of many, or of most."""
        texts = (self.local_aet, self.remote_aet, self.destination_aet, *(value for _, value in self.params))
        return any(isinstance(text, str) for text in texts)

    def has_order_of(self, name: str) -> bool:
        """Tell whether an index has the matching tasks in an order: updatedTime, createdTime or scheduledTime.

        By updatedTime those of each status, if statuses or a queue are meant.
        """
        ranges = {"updatedTime": self.created, "createdTime": self.updated}
        if name not in ranges or ranges[name] != (None, None) or self.batch_id or self.is_searched:
            return False
        narrowing = (self.devices, self.exporter_ids)
        if name == "createdTime":
            return not any((self.statuses, self.queues, *narrowing))
        if self.queues:
            return self.is_of_queue and not any(narrowing)
        return all(len(values) <= 1 for values in narrowing)

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions of the WHERE clause."""
        several = (
            (Task.kind, self.kinds), (Task.device, self.devices), (Task.queue, self.queues),
            (Task.status, tuple(status.value for status in self.statuses)), (Task.exporter_id, self.exporter_ids),
        )  # fmt: skip
        single = (
            (Task.batch_id, self.batch_id), (Task.local_aet, self.local_aet), (Task.remote_aet, self.remote_aet),
            (Task.destination_aet, self.destination_aet), (Task.study_uid, self.study_uid),
            (Task.requester_user, self.requester_user),
        )  # fmt: skip
        found: list[ColumnElement[bool]] = [Task.id == slots.ids(self.ids)] if self.ids else []
        found += [
            column == values[0] if len(values) == 1 else column.in_(values) for column, values in several if values
        ]
        found += [column == value for column, value in single if value is not None]
        for column, (low, high) in ((Task.created_time, self.created), (Task.updated_time, self.updated)):
            found += [column >= low] if low is not None else []
            found += [column <= high] if high is not None else []
        if self.remote_aet is not None and not self.kinds:
            # As the index of AE titles has it; an export has none.
            found.append(Task.kind != literal_column("'EXPORT'"))
        return found + [_has(name, value) for name, value in self.params]


def _has(name: str, value: str | bool) -> ColumnElement[bool]:
    if isinstance(value, str):
        # The name is written into the statement, as it is in the index.
        return Task.params.op("->>", return_type=Text())(literal(name, Text, literal_execute=True)) == value
    # As text, so that also a COPY can carry it.
    there = Task.params.op("@>", return_type=Boolean())(cast(literal(json.dumps({name: True}), Text), JSONB))
    return there if value else ~there


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list, in which order. `order` is createdTime, updatedTime or scheduledTime, `-` descends."""

    offset: int = 0
    limit: int | None = None
    order: str = "-updatedTime"
    #: Only what comes behind this task in the order: time and id; other than an offset it costs nothing.
    after: tuple[datetime, int] | None = None


ORDERS = {
    "createdTime": Task.created_time,
    "updatedTime": Task.updated_time,
    "scheduledTime": Task.scheduled_time,
}


def find(session: Session, query: TaskQuery, page: Page = Page()) -> Iterator[TaskView]:
    """Yield the matching tasks of a page, read from the database in parts, so that memory stays flat."""
    by_filter = _is_found_by_filter(session, query, page)
    selected = None if by_filter else _of_each_status(query, page)
    if selected is None:
        selected = ordered(select(Task.__table__), query, page, by_filter=by_filter)
    rows = session.execute(selected, execution_options={"yield_per": FETCH_SIZE})
    for row in rows.mappings():
        yield TaskView.of(row)


def _behind(page: Page) -> list[ColumnElement[bool]]:
    if page.after is None:
        return []
    position = tuple_(ORDERS[page.order.removeprefix("-")], Task.id)
    end = tuple_(*(literal(part) for part in page.after))
    return [position < end if page.order.startswith("-") else position > end]


def position_of(task: TaskView, order: str) -> tuple[datetime, int]:
    """Return where a task stands in an order: what `Page.after` takes."""
    match order.removeprefix("-"):
        case "createdTime":
            return task.created_time, task.id
        case "scheduledTime":
            return task.scheduled_time, task.id
        case _:
            return task.updated_time, task.id


def ordered(selected: Select[Any], query: TaskQuery, page: Page, *, by_filter: bool = False) -> Select[Any]:
    """Return what selects columns of tasks, narrowed down to the matching tasks of a page, in its order.

    Args:
        selected: the columns.
        query: which tasks.
        page: which part of them.
        by_filter: all matching tasks are read and then sorted, none is looked for along the order.
    """
    column, by_id = ORDERS[page.order.removeprefix("-")], Task.id
    # No index has the sum, so that the database does not go along the order of one.
    by = column + timedelta(0) if by_filter else column
    order = (by.desc(), by_id.desc()) if page.order.startswith("-") else (by, by_id)
    selected = selected.select_from(Task).where(*query.conditions(), *_behind(page)).order_by(*order)
    if page.offset:
        selected = selected.offset(page.offset)
    return selected if page.limit is None else selected.limit(page.limit)


def _of_each_status(query: TaskQuery, page: Page) -> Select[Any] | None:
    """Return what merges the pages of several statuses, each found along its own index; None: it is not so."""
    name = page.order.removeprefix("-")
    statuses = query.statuses or (tuple(Status) if query.is_of_queue else ())
    if page.limit is None or len(statuses) < 2 or name != "updatedTime":
        return None
    if not (query.is_of_queue or query.has_order_of(name)):
        return None
    first = replace(page, offset=0, limit=page.offset + page.limit)
    pages = [ordered(select(Task.id), replace(query, statuses=(one,)), first).subquery() for one in statuses]
    chosen = union_all(*(select(one.c.id) for one in pages))
    return ordered(select(Task.__table__).where(Task.id.in_(chosen)), TaskQuery(), page)


def _is_found_by_filter(session: Session, query: TaskQuery, page: Page) -> bool:
    """Tell whether few tasks match, in a place of the order that the database cannot know.

    It takes for granted that what matches is spread evenly over the order. Of a day six weeks ago, the first task
    comes behind half a million that were changed since.
    """
    if page.limit is None or query.has_order_of(page.order.removeprefix("-")):
        return False
    few = _FEW_STREWN if query.is_searched else _FEW
    # Nothing of the row is asked for, so that an index alone can tell.
    some = select(literal_column("1")).select_from(Task).where(*query.conditions()).limit(few + 1).subquery()
    return session.scalars(select(func.count()).select_from(some)).one() <= few


def get(session: Session, task_id: int) -> TaskView | None:
    """Return one task, or None."""
    row = session.execute(select(Task.__table__).where(Task.id == task_id)).mappings().one_or_none()
    return None if row is None else TaskView.of(row)


def count(session: Session, query: TaskQuery, *more: ColumnElement[bool]) -> int:
    """Return how many tasks match, and fulfil what else is said."""
    return session.scalars(select(func.count()).select_from(Task).where(*query.conditions(), *more)).one()


def count_by_status(session: Session, query: TaskQuery) -> dict[Status, int]:
    """Return how many tasks match, by status; statuses without a task are left out."""
    rows: Sequence[tuple[str, int]] = [
        (status, number)
        for status, number in session.execute(
            select(Task.status, func.count()).where(*query.conditions()).group_by(Task.status)
        )
    ]
    return {Status(status): number for status, number in rows}


def count_waiting(session: Session, device: str, *, at_most: int) -> int:
    """Return how many tasks of a device wait, counting no further than told."""
    waiting = select(Task.id).where(Task.device == device, Task.status.in_([status.value for status in WAITING]))
    return session.scalars(select(func.count()).select_from(waiting.limit(at_most).subquery())).one()
