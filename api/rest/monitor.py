"""`/monitor/{kind}`: list, count, cancel, reschedule and delete tasks of one kind, one or all that match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers, steering
from api.answers import BadRequest, Route
from api.rest import changes, filters, forwarding, listing, parameters
from api.rest.parameters import IN_VAIN, PAGING, Given, Parameter, flag
from api.rest.shape import Shape
from api.rest.single import Single
from api.security import Caller, Operator, Reader, Submitter
from archive import db
from config import settings
from tasks import operations
from tasks import query as queries
from tasks.operations import BulkResult
from tasks.query import TaskQuery

DRY_RUN = flag("dryrun", "Answer what would be done, per device, status and reason of refusal; change nothing.")


class Monitor:
    """The services for tasks of one kind."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._filters = filters.of_shape(shape)

    def router(self) -> APIRouter:
        """Return the routes."""
        made = APIRouter(prefix=f"/monitor/{self._shape.slug}", tags=[self._shape.kind], route_class=Route)
        bulk = (*self._filters, filters.ALL, DRY_RUN)
        renew = (*bulk, *changes.RESCHEDULE)
        self._add(made, "GET", "", self.list, (*self._filters, *filters.PAGE, listing.ACCEPT))
        self._add(made, "GET", "/count", self.count, self._filters)
        self._add(made, "POST", "/cancel", self.cancel, bulk)
        self._add(made, "POST", "/reschedule", self.reschedule, renew)
        if self._shape.has_exporter:
            self._add(made, "POST", "/reschedule/{ExporterID}", self.reschedule_to, renew)
        self._add(made, "DELETE", "", self.delete, bulk)
        single = Single(self._shape)
        for method, path, service, known in single.routes():
            self._add(made, method, path, service, known)
        return made

    def _add(
        self, router: APIRouter, method: str, path: str, service: Callable[..., Response], known: Sequence[Parameter]
    ) -> None:
        documented: dict[str, Any] = {"parameters": [parameter.documented() for parameter in known]}
        router.add_api_route(
            path,
            service,
            methods=[method],
            name=f"{service.__name__} {self._shape.slug}",
            operation_id=f"{self._shape.slug}_{service.__name__}",
            response_class=Response,
            openapi_extra=documented,
        )

    def list(self, request: Request, _caller: Reader) -> Response:
        """List tasks as JSON or CSV."""
        given = parameters.read(request, (*self._filters, *filters.PAGE, listing.ACCEPT))
        zone = settings.current().zone()
        how = listing.wanted_format(request, given)
        wanted, page = filters.task_query(given, self._shape, zone), filters.page(given)
        return answers.warned(listing.answer(wanted, page, self._shape, zone, how), given.warnings)

    def count(self, request: Request, _caller: Reader) -> Response:
        """Count tasks."""
        given = parameters.read(request, self._filters, in_vain=IN_VAIN | PAGING)
        wanted = filters.task_query(given, self._shape, settings.current().zone())
        with db.transaction() as session:
            return answers.as_json({"count": queries.count(session, wanted)}, warnings=given.warnings)

    def cancel(self, request: Request, caller: Submitter) -> Response:
        """Cancel all matching tasks that are not done."""
        given = self._given(request)
        wanted = filters.task_query(given, self._shape, settings.current().zone())
        if not wanted.statuses and not given.is_true("all"):
            raise BadRequest("Missing query parameter: status")
        chosen = steering.cancelable(wanted, caller)
        return self._do(
            "CancelTasks", request, caller, given, lambda dry: operations.cancel(chosen, caller.by, dry_run=dry)
        )

    def reschedule(self, request: Request, caller: Operator) -> Response:
        """Schedule all matching tasks anew, on their own devices or on `newDeviceName`."""
        return self._reschedule(request, caller, None)

    def reschedule_to(self, request: Request, caller: Operator, ExporterID: str) -> Response:  # noqa: N803
        """Schedule all matching tasks anew, to another exporter."""
        return self._reschedule(request, caller, ExporterID)

    def _reschedule(self, request: Request, caller: Caller, exporter_id: str | None) -> Response:
        given = self._given(request, *changes.RESCHEDULE)
        wanted = self._wanted(given)
        change = changes.change(given, exporter_id, wanted.devices)
        return self._do(
            "RescheduleTasks", request, caller, given,
            lambda dry: operations.reschedule(wanted, change, caller.by, dry_run=dry),
        )  # fmt: skip

    def delete(self, request: Request, caller: Operator) -> Response:
        """Delete all matching tasks of any status."""
        given = self._given(request)
        wanted = self._wanted(given)
        return self._do(
            "DeleteTasks", request, caller, given, lambda dry: operations.delete(wanted, caller.by, dry_run=dry)
        )

    def _given(self, request: Request, *more: Parameter) -> Given:
        return parameters.read(request, (*self._filters, filters.ALL, DRY_RUN, *more))

    def _wanted(self, given: Given) -> TaskQuery:
        wanted = filters.task_query(given, self._shape, settings.current().zone())
        filters.refuse_all(wanted, given, self._filters)
        return wanted

    def _do(
        self, action: str, request: Request, caller: Caller, given: Given, run: Callable[[bool], BulkResult]
    ) -> Response:
        elsewhere = forwarding.forwarded(request, caller, given)
        if elsewhere is not None:
            return elsewhere
        if given.is_true("dryrun"):
            return answers.warned(answers.preview(run(True)), given.warnings)
        what = f"{request.url.path}?{answers.without_token(request)}"
        result = steering.recorded(caller, action, what, lambda: run(False))
        return answers.warned(answers.bulk(result), given.warnings)
