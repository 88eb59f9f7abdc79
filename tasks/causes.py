"""Failures by cause: what the tasks that went wrong say, with what differs from task to task left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Text, cast, func, literal, select
from sqlalchemy.orm import Session

from tasks.query import TaskQuery
from tasks.record import Task
from tasks.state import Status

#: Whose tasks went wrong, unless told.
WRONG = (Status.FAILED, Status.WARNING, Status.SCHEDULED_FOR_RETRY)

#: Numbers of objects differ from task to task. Each pattern costs seconds on a million messages, hence only one.
_NUMBERS = r"(completed|remaining|failed|warning|missing|different):[0-9]+"


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
    """Return a message without the task's own id and UIDs, and without numbers of objects."""
    message = func.replace(message, literal("{id=") + cast(Task.id, Text) + "}", "{id=*}")
    for uid in (Task.sop_uid, Task.series_uid, Task.study_uid):
        message = func.replace(message, func.coalesce(uid, ""), "*")  # nothing is replaced where there is none
    return func.regexp_replace(message, _NUMBERS, r"\1:*", "g", type_=Text())
