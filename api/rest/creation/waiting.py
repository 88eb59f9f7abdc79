"""Services that answer when the work is done: a task is made all the same, and its end is waited for.

Source: the synchronous services of dcm4chee-arc-light, which keep no task. Here every transfer is a task: it obeys
the caps of its destination, survives a crash, and operators see it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api import answers
from api.answers import NotFound
from api.rest import documents
from api.rest.creation import asking, routes, services
from api.rest.creation.asking import Asked
from api.rest.creation.recipe import Recipe
from api.security import Submitter
from archive import db
from tasks import admission, circumstances, operations, slots, waited
from tasks import query as queries
from tasks.admission import Why
from tasks.errors import NotFoundError
from tasks.operations import Scheduled
from tasks.query import TaskQuery
from tasks.record import TaskView
from tasks.state import WAITING, Status

#: Seconds between two looks at the task.
_LOOK_EVERY_S = 0.2
#: Seconds that a client waits at most; what it asked for goes on.
LONGEST_WAIT_S = 600.0

_ACCEPTED = int(HTTPStatus.ACCEPTED)

#: Return status and body for the task as it ended: an object gets the number of the task, None is no body.
Answer = Callable[[TaskView], tuple[int, Mapping[str, Any] | Sequence[Any] | None]]
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
            wait_s = 0.0 if how.is_queued(asked) else seconds(request)
            return asked, services.make_one(asked, asking.entity_of(asked.path), wait_s)

        asked, scheduled = await run_in_threadpool(make)
        if how.is_queued(asked):
            return services.answer_one(asked, scheduled)
        return await ended(asked, scheduled, how.answer)

    for name, path in routes.SINGLE:
        known = (*asking.COMMON, *recipe.parameters)
        described = how.described(routes.task_of(recipe))
        routes.add(made, f"{verb}_{name}", path + suffix, (service, known), f"Make a task of one {name}", described)


async def ended(asked: Asked, scheduled: Scheduled, answer: Answer) -> Response:
    """Return what became of a task; 202 with the task if it takes longer than the client wants to wait.

    An attempt that failed is an end for the client, also where the task, made by somebody else, is tried again.

    Raises:
        NotFound: somebody has deleted it.
    """
    seen = _Seen(scheduled.task)
    wait_s = seconds(asked.request)
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    while not _is_over(seen, scheduled) and loop.time() < until:
        if await asked.request.is_disconnected():
            break  # the task goes on; nobody reads the answer
        await asyncio.sleep(_LOOK_EVERY_S)
        seen = await run_in_threadpool(_look, asked, scheduled)
    if not _is_over(seen, scheduled):
        asked.given.warn(f"the task has not ended within {wait_s:g} s; its Location says what becomes of it")
        return services.answer_one(asked, Scheduled(seen.task))
    if not seen.task.status.is_done and not (seen.left_alone and _is_ours_alone(scheduled, seen.task)):
        asked.given.warn("the task is tried again; its Location says what becomes of it")
    status, body = await run_in_threadpool(answer, seen.task)
    if isinstance(body, Mapping):
        body = {**body, "taskID": str(seen.task.id)}
    said = answers.empty(asked.given.warnings) if body is None else answers.as_json(body, status, asked.given.warnings)
    return services.located(asked, seen.task, said)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A task at one look."""

    task: TaskView
    #: Why its destination is left alone, so that it does not run.
    left_alone: str | None = None


def _is_over(seen: _Seen, scheduled: Scheduled) -> bool:
    return seen.task.status.is_done or seen.left_alone is not None or seen.task.failures > scheduled.task.failures


def _look(asked: Asked, scheduled: Scheduled) -> _Seen:
    task_id = scheduled.task.id
    with db.transaction() as session:
        task = queries.get(session, task_id)
        if task is None:
            raise NotFound(f"No such Task : {task_id}")
        now = slots.database_time(session)
        is_due = task.status.is_waiting and task.scheduled_time <= now
        state = circumstances.destination_of(session, task.destination) if is_due else None
    refusals = [] if state is None else list(admission.destination_refusals(state, now))
    why = next((one.text for one in refusals if one.why is Why.BREAKER_OPEN), None)
    if why is None or not _may_be_left(asked, scheduled, task, why):
        return _Seen(task)
    return _Seen(replace(task, error_message=why), why)


def _may_be_left(asked: Asked, scheduled: Scheduled, task: TaskView, why: str) -> bool:
    """Cancel a task that waits, for nobody will wait for it any more, unless somebody else wants it too."""
    if not _is_ours_alone(scheduled, task):
        return True
    try:
        waiting = TaskQuery(statuses=tuple(sorted(WAITING)))
        operations.cancel_one(task.id, waiting, replace(asked.caller.by, reason=why))
    except NotFoundError:
        return False  # it was just tried, or is gone
    return True


def _is_ours_alone(scheduled: Scheduled, task: TaskView) -> bool:
    return not scheduled.existed and not scheduled.repeated and waited.UNTIL in task.params


def seconds(request: Request) -> float:
    """Return how long to wait: what `Prefer: wait=SECONDS` says (RFC 7240), but not without end."""
    found = re.search(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})", request.headers.get("prefer", ""), re.IGNORECASE)
    return LONGEST_WAIT_S if found is None else min(float(found[1]), LONGEST_WAIT_S)


def transfer(is_queued: IsQueued) -> Ending:
    """Return how a service answers that sends something."""
    return Ending(is_queued, _transferred, documents.SENT, {206: "Some of it was sent.", 502: "Nothing was sent."})


def _transferred(task: TaskView) -> tuple[int, dict[str, Any]]:
    """Return what the service answers that waits: 200, 206 if only some was sent, 502 if nothing was."""
    numbers = numbers_of(task, "completed", "warning", "failed")
    sent, code = numbers["completed"] + numbers["warning"], task.progress.get("statusCode")
    # A task may end with a WARNING although all is there: the destination had remarks, or there was nothing to send.
    is_all = task.status is Status.COMPLETED or (
        task.status is Status.WARNING and not numbers["failed"] and (sent > 0 or code == 0)
    )
    status = 200 if is_all else 206 if sent else 502
    error = task.progress.get("errorComment") or (None if is_all else why_not(task))
    said: dict[str, Any] = {"status": f"{code & 0xFFFF:04X}" if isinstance(code, int) else None, "error": error}
    return status, {name: value for name, value in {**said, **numbers}.items() if value is not None}


def numbers_of(task: TaskView, *names: str) -> dict[str, int]:
    """Return counters of a task; those that it does not have are 0."""
    return {name: int(task.progress.get(name) or 0) for name in names}


def why_not(task: TaskView) -> str:
    """Return in words why a task did not do what it was made for."""
    if task.status is Status.CANCELED:
        return task.outcome_message or f"Task {task.id} was canceled"
    return task.error_message or task.outcome_message or f"Task {task.id} is {task.status}"
