"""Failures by cause: what the tasks that went wrong say, with what differs from task to task left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Text, func, select
from sqlalchemy.orm import Session

from tasks.query import TaskQuery
from tasks.record import Task
from tasks.state import Status

#: Whose tasks went wrong, unless told.
WRONG = (Status.FAILED, Status.WARNING, Status.SCHEDULED_FOR_RETRY)

#: UIDs, ids of tasks and numbers of objects: two messages that differ in nothing else have one cause.
_DIFFERING = (
    (r"(uid[=:] ?)[0-9.]+", r"\1*"),
    (r"\m[0-9]+(\.[0-9]+){4,}", "*"),
    (r"(\{id=)[0-9]+", r"\1*"),
    (r"\m(completed|remaining|failed|warning|missing|different): ?[0-9]+", r"\1:*"),
    (r"\m[0-9]+( objects?| of [0-9]+)", r"*\1"),
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Tasks that went wrong in the same way."""

    #: The last error, or else the outcome; None: neither was told.
    message: str | None
    destination: str | None
    status: Status
    count: int
    #: The last of them.
    newest_id: int
    newest_time: datetime


def find(session: Session, wanted: TaskQuery, limit: int) -> list[Cause]:
    """Return the causes of what went wrong, the commonest first; without statuses all that is wrong is meant."""
    chosen = wanted if wanted.statuses else replace(wanted, statuses=WRONG)
    message = _alike(func.coalesce(Task.error_message, Task.outcome_message))
    each = (
        select(message.label("message"), Task.destination, Task.status, Task.id, Task.updated_time)
        .where(*chosen.conditions())
        .subquery()
        .c
    )
    number = func.count()
    query = (
        select(each.message, each.destination, each.status, number, func.max(each.id), func.max(each.updated_time))
        .group_by(each.message, each.destination, each.status)
        .order_by(number.desc(), each.message, each.destination, each.status)
        .limit(limit)
    )
    return [
        Cause(text, destination, Status(status), count, newest, at)
        for text, destination, status, count, newest, at in session.execute(query)
    ]


def _alike(message: ColumnElement[str]) -> ColumnElement[str]:
    for pattern, instead in _DIFFERING:
        message = func.regexp_replace(message, pattern, instead, "gi", type_=Text())
    return message
