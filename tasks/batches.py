"""Batches: what the tasks that were made together have come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, distinct, func, literal, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from tasks.query import ORDERS, Page, TaskQuery
from tasks.record import Task
from tasks.state import Status

#: Times of which a batch shows the first and the last.
TIMES: Mapping[str, InstrumentedAttribute[Any]] = {
    **ORDERS,
    "processingStartTime": Task.started_time,
    "processingEndTime": Task.ended_time,
}

#: A parameter of the task that is true or false is false where it is not set.
_TRUTHS = frozenset({"checkMissing", "checkDifferent"})


@dataclass(frozen=True, slots=True)
class Batch:
    """What the tasks of a batch have in common, and do not."""

    id: str
    by_status: Mapping[Status, int]
    devices: Sequence[str]
    #: Different values by what was asked for, sorted.
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sums: Mapping[str, int] = field(default_factory=dict)
    #: First and last; only of times that there are.
    ranges: Mapping[str, tuple[datetime, datetime]] = field(default_factory=dict)


def find(
    session: Session, wanted: TaskQuery, page: Page, lists: Sequence[str] = (), sums: Sequence[str] = ()
) -> list[Batch]:
    """Return the batches of the matching tasks.

    Args:
        session: the transaction.
        wanted: which tasks; its statuses choose the batches that have such a task, and do not narrow down their counts.
        page: its order goes by the lowest time of a batch, or descending by the highest.
        lists: columns, or `params.NAME`, whose different values are wanted.
        sums: `progress.NAME` whose sum is wanted.
    """
    anyway = replace(wanted, statuses=())
    columns: list[ColumnElement[Any]] = [
        Task.batch_id.expression,
        *(func.count().filter(Task.status == status.value) for status in Status),
        *(_values(name) for name in ("device", *lists)),
        *(func.coalesce(func.sum(_number(name)), 0) for name in sums),
        *(edge(column) for column in TIMES.values() for edge in (func.min, func.max)),
    ]
    query = (
        select(*columns)
        .where(*anyway.conditions(), Task.batch_id.is_not(None))
        .group_by(Task.batch_id)
        .order_by(_edge(page.order), Task.batch_id)
        .offset(page.offset)
        .limit(page.limit)
    )
    if wanted.statuses:
        chosen = Task.status.in_([status.value for status in wanted.statuses])
        query = query.having(func.count().filter(chosen) > 0)
    return [_batch(list(row), lists, sums) for row in session.execute(query)]


def _edge(order: str) -> ColumnElement[Any]:
    column = ORDERS[order.removeprefix("-")]
    return func.max(column).desc() if order.startswith("-") else func.min(column)


def _values(name: str) -> ColumnElement[Any]:
    value = _value(name)
    return func.array_agg(distinct(value)).filter(value.is_not(None))


def _value(name: str) -> ColumnElement[Any]:
    kept, _, key = name.partition(".")
    if not key:
        return Task.__table__.columns[name]
    value: ColumnElement[Any] = getattr(Task, kept)[key].astext
    return func.coalesce(value, literal("false")) if key in _TRUTHS else value


def _number(name: str) -> ColumnElement[Any]:
    # Whatever else a run may have written there counts as nothing.
    value = _value(name)
    return cast(func.substring(cast(value, Text), r"^\d{1,15}$"), Task.id.type)


def _batch(row: list[Any], lists: Sequence[str], sums: Sequence[str]) -> Batch:
    batch_id, *rest = row
    counts, rest = rest[: len(Status)], rest[len(Status) :]
    devices, rest = rest[0], rest[1:]
    values, rest = rest[: len(lists)], rest[len(lists) :]
    totals, edges = rest[: len(sums)], rest[len(sums) :]
    times = zip(TIMES, zip(edges[::2], edges[1::2], strict=True), strict=True)
    return Batch(
        batch_id,
        {status: number for status, number in zip(Status, counts, strict=True) if number},
        devices,
        dict(zip(lists, (found or [] for found in values), strict=True)),
        {name: int(total) for name, total in zip(sums, totals, strict=True)},
        {name: (low, high) for name, (low, high) in times if low is not None},
    )
