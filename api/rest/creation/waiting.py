"""Services that answer when the work is done: a task is made all the same, and its end is waited for.

Source: the synchronous services of dcm4chee-arc-light, which keep no task. Here every transfer is a task: it obeys
the caps of its destination, survives a crash, and operators see it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api import answers
from api.rest import documents
from api.rest.creation import asking, routes, services
from api.rest.creation.asking import Asked
from api.rest.creation.recipe import Recipe
from api.security import Submitter
from archive import db
from tasks import query as queries
from tasks.operations import Scheduled
from tasks.record import TaskView

#: Seconds between two looks at the task.
_LOOK_EVERY_S = 0.2
#: Seconds that a client waits at most; what it asked for goes on.
LONGEST_WAIT_S = 600.0

_ACCEPTED = int(HTTPStatus.ACCEPTED)

#: Return status and body for the task as it ended.
Answer = Callable[[TaskView], tuple[int, Mapping[str, Any]]]
#: Tell whether the request asks for a task, and for no waiting.
IsQueued = Callable[[Asked], bool]

#: The entry of the OpenAPI document of how long a client waits.
PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=SECONDS`: answer 202 with the task if it has not ended by then; absent: 600.",
    "schema": documents.TEXT,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a service answers that waits."""

    is_queued: IsQueued
    answer: Answer
    #: Schema of the body that `answer` returns, with the number of the task.
    schema: documents.Schema
    #: Statuses other than 200 that `answer` returns, each with what it means.
    statuses: Mapping[int, str]

    def described(self, task: documents.Schema) -> dict[str, Any]:
        """Return the answers for the OpenAPI document; `task` is the schema of the task that is answered too."""
        more = {status: (meant, self.schema) for status, meant in self.statuses.items()}
        waits = "The task, or an equal one; it has not ended."
        if _ACCEPTED in more:
            more[_ACCEPTED] = (f"{waits} Or: {self.statuses[_ACCEPTED]}", {"anyOf": [task, self.schema]})
        else:
            more[_ACCEPTED] = (waits, task)
        return {"answer": self.schema, "more": more, "extra": (PREFER,)}


def one(made: APIRouter, recipe: Recipe, verb: str, suffix: str, how: Ending) -> None:
    """Add the services of one study, series or object, that wait unless the request asks for a task."""

    async def service(request: Request, caller: Submitter) -> Response:
        def make() -> tuple[Asked, Scheduled]:
            asked = asking.read(recipe, request, caller)
            return asked, services.make_one(asked, asking.entity_of(asked.path))

        asked, scheduled = await run_in_threadpool(make)
        if how.is_queued(asked):
            return services.answer_one(asked, scheduled)
        return await ended(asked, scheduled, how.answer)

    for name, path in routes.SINGLE:
        known = (*asking.COMMON, *recipe.parameters)
        described = how.described(routes.task_of(recipe))
        routes.add(made, f"{verb}_{name}", path + suffix, (service, known), f"Make a task of one {name}", described)


async def ended(asked: Asked, scheduled: Scheduled, answer: Answer) -> Response:
    """Return what became of a task; 202 with the task if it takes longer than the client wants to wait."""
    task: TaskView | None = scheduled.task
    wait_s = _wait_s(asked.request)
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    while task is not None and not task.status.is_done and loop.time() < until:
        if await asked.request.is_disconnected():
            break  # the task goes on; nobody reads the answer
        await asyncio.sleep(_LOOK_EVERY_S)
        task = await run_in_threadpool(_look, scheduled.task.id)
    if task is None or not task.status.is_done:
        asked.given.warn(f"the task has not ended within {wait_s:g} s; its Location says what becomes of it")
        return services.answer_one(asked, Scheduled(task or scheduled.task))
    status, body = answer(task)
    said = answers.as_json({**body, "taskID": str(task.id)}, status, asked.given.warnings)
    return services.located(asked, task, said, behind="/studies" if status == HTTPStatus.SEE_OTHER else "")


def _wait_s(request: Request) -> float:
    """Return how long to wait: what `Prefer: wait=SECONDS` says (RFC 7240), but not without end."""
    found = re.search(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})", request.headers.get("prefer", ""), re.IGNORECASE)
    return LONGEST_WAIT_S if found is None else min(float(found[1]), LONGEST_WAIT_S)


def _look(task_id: int) -> TaskView | None:
    with db.transaction() as session:
        return queries.get(session, task_id)


def transfer(is_queued: IsQueued) -> Ending:
    """Return how a service answers that sends something."""
    return Ending(is_queued, _transferred, documents.SENT, {206: "Some of it was sent.", 502: "Nothing was sent."})


def _transferred(task: TaskView) -> tuple[int, dict[str, Any]]:
    """Return what the service answers that waits: 200, 206 if some failed, 502 if all did."""
    numbers = {name: int(task.progress.get(name) or 0) for name in ("completed", "warning", "failed")}
    sent = numbers["completed"] + numbers["warning"]
    status = 200 if task.status.is_done and not numbers["failed"] and sent else 206 if sent else 502
    code = task.progress.get("statusCode")
    error = task.progress.get("errorComment") or task.error_message
    said: dict[str, Any] = {"status": f"{code & 0xFFFF:04X}" if isinstance(code, int) else None, "error": error}
    return status, {name: value for name, value in {**said, **numbers}.items() if value is not None}
