"""The page of one task: what it is, why it waits, its history, its runs, and how each object ended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from api import explain
from api.answers import NotFound
from api.console.page import Page
from api.rest import filters, parameters
from api.rest.parameters import Parameter
from archive import db
from tasks import attempts, history
from tasks import query as queries
from tasks.attempts import Attempt, ObjectAttempt
from tasks.history import Transition
from tasks.record import TaskView

#: Objects on a page.
_OBJECTS = 100
_OFFSET = Parameter("offset", "Objects to skip.")
_LARGEST_OFFSET = 1_000_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What the page shows."""

    #: None: it was deleted, and only its past is left.
    task: TaskView | None
    why: dict[str, Any] | None
    transitions: list[Transition]
    attempts: list[Attempt]
    counts: dict[str, int]
    objects: list[ObjectAttempt]


class TaskPage(Page):
    """`/archive/tasks/{id}`."""

    async def get(self, text: str) -> None:
        """Show a task, or what is left of one that was deleted."""
        task_id = filters.task_id(text)
        given = parameters.take(self.items(), (_OFFSET,), changing=False)
        offset = given.number("offset", 0, _LARGEST_OFFSET) or 0
        seen = await self.work.run(partial(_seen, task_id, offset))
        self.show("task", seen=seen, task=seen.task, why=seen.why, task_id=task_id, offset=offset, most=_OBJECTS)


def _seen(task_id: int, offset: int) -> Seen:
    with db.transaction() as session:
        task = queries.get(session, task_id)
        transitions = history.of_task(session, task_id)
        if task is None and not transitions:
            raise NotFound(f"No such Task : {task_id}")
        tried = attempts.of_task(session, task_id)
        counts = attempts.count_objects(session, task_id)
        objects = attempts.objects(session, task_id, offset=offset, limit=_OBJECTS)
    why = explain.explain(task) if task is not None else None
    return Seen(task, why, transitions[::-1], tried, counts, objects)
