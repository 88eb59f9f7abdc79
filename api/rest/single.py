"""The services for one task of a kind or queue: look at it, cancel, reschedule or delete it."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from api import answers, audit, steering
from api.answers import NotFound
from api.explain import explain
from api.rest import changes, documents, filters, parameters, times
from api.rest import shape as shapes
from api.rest.scope import Scope
from api.security import Caller, Operator, Reader, Submitter
from archive import db
from config import settings
from tasks import history, operations
from tasks import query as queries
from tasks.history import Transition
from tasks.record import TaskView

Add = Callable[..., None]


class Single:
    """The services for one task of a scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._reschedule_parameters = changes.of_scope(scope)

    def add(self, router: APIRouter, add: Add) -> None:
        """Add the routes."""
        renew = self._reschedule_parameters
        add(router, "GET", "/{taskID}", self.get, (), answer=documents.TYPED_TASK)
        add(router, "GET", "/{taskID}/history", self.history, (), answer=documents.array(documents.TRANSITION))
        add(router, "GET", "/{taskID}/explain", self.explain, (), answer=documents.ANYTHING)
        add(router, "POST", "/{taskID}/cancel", self.cancel_one, (), status=204)
        add(router, "POST", "/{taskID}/reschedule", self.reschedule_one, renew, status=204)
        if self._scope.has_exporter:
            add(router, "POST", "/{taskID}/reschedule/{ExporterID}", self.reschedule_one_to, renew, status=204)
        add(router, "DELETE", "/{taskID}", self.delete_one, (), status=204)

    def get(self, request: Request, _caller: Reader, taskID: str) -> Response:  # noqa: N803
        """Return one task with typed values."""
        given = parameters.read(request, ())
        task = self._task(request, filters.task_id(taskID))
        return answers.as_json(shapes.typed(task, settings.current().zone()), warnings=given.warnings)

    def history(self, request: Request, _caller: Reader, taskID: str) -> Response:  # noqa: N803
        """Return all transitions of a task, oldest first; of a deleted one too."""
        given = parameters.read(request, ())
        number = filters.task_id(taskID)
        with db.transaction() as session:
            task, found = queries.get(session, number), history.of_task(session, number)
        if (task is None and not found) or (task is not None and not self._fits(request, task)):
            raise NotFound(f"No such Task : {taskID}")
        return answers.as_json([transition(one) for one in found], warnings=given.warnings)

    def explain(self, request: Request, _caller: Reader, taskID: str) -> Response:  # noqa: N803
        """Say why a task does not run now."""
        given = parameters.read(request, ())
        return answers.as_json(explain(self._task(request, filters.task_id(taskID))), warnings=given.warnings)

    def cancel_one(self, request: Request, caller: Submitter, taskID: str) -> Response:  # noqa: N803
        """Cancel one task."""
        given = parameters.read(request, ())
        number = filters.task_id(taskID)
        steering.cancel_one(number, self._scope.base(request), caller)
        return answers.empty(given.warnings)

    def reschedule_one(self, request: Request, caller: Operator, taskID: str) -> Response:  # noqa: N803
        """Schedule one task anew, on its own device or on `newDeviceName`."""
        return self._reschedule(request, caller, taskID, None)

    def reschedule_one_to(
        self, request: Request, caller: Operator, taskID: str, ExporterID: str  # noqa: N803
    ) -> Response:  # fmt: skip
        """Schedule one task anew, to another exporter."""
        return self._reschedule(request, caller, taskID, ExporterID)

    def delete_one(self, request: Request, caller: Operator, taskID: str) -> Response:  # noqa: N803
        """Delete one task of any status."""
        given = parameters.read(request, ())
        number = filters.task_id(taskID)
        with audit.recorded(caller, "DeleteTask", str(number)) as entry:
            operations.delete_one(number, self._scope.base(request), caller.by)
            entry.count = 1
        return answers.empty(given.warnings)

    def _reschedule(self, request: Request, caller: Caller, text: str, exporter_id: str | None) -> Response:
        given = parameters.read(request, self._reschedule_parameters)
        number = filters.task_id(text)
        change = changes.change(given, exporter_id)
        what = f"{number} {answers.without_token(request)}".rstrip()
        with audit.recorded(caller, "RescheduleTask", what) as entry:
            operations.reschedule_one(number, self._scope.base(request), change, caller.by)
            entry.count = 1
        return answers.empty(given.warnings)

    def _task(self, request: Request, number: int) -> TaskView:
        with db.transaction() as session:
            task = queries.get(session, number)
        if task is None or not self._fits(request, task):
            raise NotFound(f"No such Task : {number}")
        return task

    def _fits(self, request: Request, task: TaskView) -> bool:
        path = self._scope.base(request)
        return task.kind in path.kinds or task.queue in path.queues


def transition(one: Transition) -> dict[str, object]:
    """Return a transition as JSON."""
    return {
        "seq": one.seq,
        "at": times.written(one.at, settings.current().zone()),
        "event": one.event,
        "from": one.from_status,
        "to": one.to_status,
        "fromDevice": one.from_device,
        "toDevice": one.to_device,
        "runID": one.run_id,
        "actor": one.actor,
        "reason": one.reason,
        "operationID": one.operation_id,
    }
