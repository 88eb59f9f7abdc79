"""Tasks whose end a client waits for: one attempt is all that it wants, as it is told of the failure and decides.

Such a task has the time in its parameters until which the client waits. An attempt that fails before is the last
one; after that time the client has been told of the task, which is one like all others.

Source: the synchronous services of dcm4chee-arc-light, which try once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from config.device import Queue
from tasks.record import NewTask

#: Name of the parameter: a time in ISO 8601, in UTC.
UNTIL = "waitedUntil"


def waited_for(new: NewTask, wait_s: float) -> NewTask:
    """Return a new task whose end somebody waits for, so long from now on; not at all: the task as it is."""
    if wait_s <= 0:
        return new
    until = datetime.now(UTC) + timedelta(seconds=wait_s)
    return replace(new, params={**new.params, UNTIL: until.isoformat()})


def policy(queue: Queue, params: Mapping[str, Any], now: datetime) -> Queue:
    """Pure: return the queue with the retries that a task with these parameters has."""
    until = params.get(UNTIL)
    is_waited_for = until is not None and now < datetime.fromisoformat(str(until))
    return replace(queue, max_retries=0) if is_waited_for else queue


def what(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that say what a task does, without who waits for it."""
    return {name: value for name, value in params.items() if name != UNTIL}
