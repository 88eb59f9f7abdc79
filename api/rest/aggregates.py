"""What many tasks come to: batches, and failures by cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers
from api.rest import documents, filters, parameters, times
from api.rest.parameters import Parameter
from api.rest.scope import Scope
from api.rest.shape import BatchShape
from api.security import Reader
from archive import db
from config import settings
from tasks import batches, causes
from tasks.batches import Batch
from tasks.causes import Cause
from tasks.query import Page
from tasks.state import Status

_CAUSES = 100
_MOST_CAUSES = 1000

_LIMIT = Parameter(
    "limit", f"Causes at most; absent: {_CAUSES}.", {"type": "integer", "minimum": 1, "maximum": _MOST_CAUSES}
)

#: In the original's order.
_COUNTERS = (
    Status.SCHEDULED, Status.SCHEDULED_FOR_RETRY, Status.IN_PROCESS, Status.WARNING, Status.FAILED, Status.CANCELED,
    Status.COMPLETED,
)  # fmt: skip


class Aggregates:
    """The services of a scope about many tasks at once."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._filters = filters.of_scope(scope)
        self._batch = (scope.shape.batch if scope.shape else None) or BatchShape()
        self._of_batches = (
            *(one for one in filters.COMMON if one.name != "taskID"),
            *(one.parameter for one in self._batch.filters),
            *filters.PAGE,
        )

    def add(self, router: APIRouter, add: Callable[..., None]) -> None:
        """Add the routes."""
        add(
            router, "GET", "/failures", self.failures, (*self._filters, _LIMIT),
            answer=documents.array(documents.FAILURE),
        )  # fmt: skip
        if self._scope.shape is not None and self._scope.shape.batch is not None:
            schema = documents.batch(list(self._batch.lists), list(self._batch.sums))
            add(router, "GET", "/batch", self.batches, self._of_batches, answer=documents.array(schema))

    def batches(self, request: Request, _caller: Reader) -> Response:
        """List batches: how many of their tasks have which status, where, and from when to when."""
        given = parameters.read(request, self._of_batches)
        zone = settings.current().zone()
        wanted = filters.task_query(given, self._scope.base(request), self._batch.filters, zone)
        lists, sums = tuple(self._batch.lists.values()), tuple(self._batch.sums.values())
        page: Page = filters.page(given)
        with db.transaction() as session:
            found = batches.find(session, wanted, page, lists, sums)
        return answers.as_json([_batch(one, self._batch, zone) for one in found], warnings=given.warnings)

    def failures(self, request: Request, _caller: Reader) -> Response:
        """Count what went wrong by cause: message, destination and status, the commonest first."""
        given = parameters.read(request, (*self._filters, _LIMIT))
        zone = settings.current().zone()
        wanted = filters.task_query(given, self._scope.base(request), self._scope.filters, zone)
        with db.transaction() as session:
            found = causes.find(session, wanted, given.number("limit", 1, _MOST_CAUSES) or _CAUSES)
        return answers.as_json([_cause(one, zone) for one in found], warnings=given.warnings)


def _batch(one: Batch, shape: BatchShape, zone: tzinfo) -> dict[str, Any]:
    counts = {
        status.value.lower().replace(" ", "-"): str(one.by_status[status])
        for status in _COUNTERS
        if status in one.by_status
    }
    values: Mapping[str, Any] = {
        "batchID": one.id,
        "tasks": counts,
        "dicomDeviceName": list(one.devices),
        **{name: list(one.lists[source]) for name, source in shape.lists.items()},
        **{name: one.sums[source] or None for name, source in shape.sums.items()},
        **{
            f"{name}Range": [times.written(at, zone) for at in one.ranges[name]]
            for name in batches.TIMES
            if name in one.ranges
        },
    }
    return {name: value for name, value in values.items() if value is not None and value != []}


def _cause(one: Cause, zone: tzinfo) -> dict[str, Any]:
    return {
        "message": one.message,
        "destination": one.destination,
        "status": one.status.value,
        "count": one.count,
        "newestTaskID": one.newest_id,
        "newestTime": times.written(one.newest_time, zone),
    }
