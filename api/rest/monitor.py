"""The services for tasks of one kind or queue: list, count, cancel, reschedule and delete all that match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers, steering
from api.answers import BadRequest, Route
from api.rest import bulk, changes, documents, filters, forwarding, listing, parameters
from api.rest.aggregates import Aggregates
from api.rest.bulk import DRY_RUN
from api.rest.calls import Call
from api.rest.listing import Written
from api.rest.parameters import IN_VAIN, PAGING, Given, Parameter
from api.rest.scope import Scope
from api.rest.single import Single
from api.security import Caller, Operator, Reader, Submitter
from archive import db
from config import settings
from tasks import query as queries
from tasks.query import TaskQuery
from tasks.wish import Action, Wish

#: A bulk call in the OpenAPI document.
_CHANGE: dict[str, Any] = {
    "answer": {"anyOf": [documents.BULK_DONE, documents.PREVIEW]},
    "more": {
        202: ("Some were refused; or it runs as an operation.",
              {"anyOf": [documents.SOME_REFUSED, documents.OPERATION]}),
        409: ("All were refused.", documents.ALL_REFUSED),
        **forwarding.ERRORS,
    },
    "extra": (bulk.PREFER,),
}  # fmt: skip


class Monitor:
    """The services for the tasks of one scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._filters = filters.of_scope(scope)
        self._reschedule_parameters = changes.of_scope(scope)

    def router(self) -> APIRouter:
        """Return the routes."""
        scope = self._scope
        made = APIRouter(prefix=scope.prefix, tags=[scope.tag], route_class=Route)
        changing = (*self._filters, filters.ALL, DRY_RUN)
        renew = (*changing, *self._reschedule_parameters)
        csv = ("text/csv",) if scope.shape else ()
        listed = documents.array(documents.task(scope.shape.properties if scope.shape else None))
        count = documents.thing({"count": documents.COUNT})
        refused = {406: ("It has no such format.", None)}
        self._add(made, "GET", "", self.list, self._listing(), answer=listed, also=csv, more=refused)
        self._add(made, "GET", "/count", self.count, self._filters, answer=count)
        self._add(made, "POST", "/cancel", self.cancel, changing, **_CHANGE)
        self._add(made, "POST", "/reschedule", self.reschedule, renew, **_CHANGE)
        if scope.has_exporter:
            self._add(made, "POST", "/reschedule/{ExporterID}", self.reschedule_to, renew, **_CHANGE)
        self._add(made, "DELETE", "", self.delete, changing, **_CHANGE)
        Aggregates(scope).add(made, self._add)
        Single(scope).add(made, self._add)
        return made

    def _add(
        self, router: APIRouter, method: str, path: str, service: Callable[..., Response], known: Sequence[Parameter],
        **documented: Any,
    ) -> None:  # fmt: skip
        scope = self._scope
        extra = (*scope.path_parameters(), *documented.pop("extra", ()))
        router.add_api_route(
            path,
            service,
            methods=[method],
            name=f"{service.__name__} {scope.name}",
            operation_id=f"{scope.name}_{service.__name__}",
            **documents.of(*known, extra=extra, **documented),
        )

    def _listing(self) -> tuple[Parameter, ...]:
        accept = (listing.ACCEPT,) if self._scope.shape else ()
        return (*self._filters, *filters.PAGE, filters.AFTER, *accept)

    def list(self, request: Request, _caller: Reader) -> Response:
        """List tasks, as JSON or CSV."""
        given = parameters.read(request, self._listing())
        written = Written(
            self._scope, settings.current().zone(), listing.wanted_format(request, given, self._scope)
        )  # fmt: skip
        made = listing.answer(request, self._query(request, given), filters.page(given), written)
        return answers.warned(made, given.warnings)

    def count(self, request: Request, _caller: Reader) -> Response:
        """Count tasks."""
        given = parameters.read(request, self._filters, in_vain=IN_VAIN | PAGING)
        wanted = self._query(request, given)
        with db.transaction() as session:
            return answers.as_json({"count": queries.count(session, wanted)}, warnings=given.warnings)

    def cancel(self, request: Request, caller: Submitter) -> Response:
        """Cancel all matching tasks that are not done."""
        given = self._given(request)
        wanted = self._query(request, given)
        if not wanted.statuses and not given.is_true("all"):
            raise BadRequest("Missing query parameter: status")
        chosen = steering.cancelable(wanted, caller)
        return self._answer(request, caller, given, Wish(Action.CANCEL, chosen))

    def reschedule(self, request: Request, caller: Operator) -> Response:
        """Schedule all matching tasks anew, on their own devices or on `newDeviceName`."""
        return self._reschedule(request, caller, None)

    def reschedule_to(self, request: Request, caller: Operator, ExporterID: str) -> Response:  # noqa: N803
        """Schedule all matching tasks anew, to another exporter."""
        return self._reschedule(request, caller, ExporterID)

    def _reschedule(self, request: Request, caller: Caller, exporter_id: str | None) -> Response:
        given = self._given(request, *self._reschedule_parameters)
        wanted = self._wanted(request, given)
        change = changes.change(given, exporter_id)
        return self._answer(request, caller, given, Wish(Action.RESCHEDULE, wanted, change))

    def delete(self, request: Request, caller: Operator) -> Response:
        """Delete all matching tasks of any status."""
        given = self._given(request)
        return self._answer(request, caller, given, Wish(Action.DELETE, self._wanted(request, given)))

    def _answer(self, request: Request, caller: Caller, given: Given, wished: Wish) -> Response:
        return bulk.answer(Call(request, caller, self._scope, given, wished))

    def _given(self, request: Request, *more: Parameter) -> Given:
        return parameters.read(request, (*self._filters, filters.ALL, DRY_RUN, *more))

    def _query(self, request: Request, given: Given) -> TaskQuery:
        zone = settings.current().zone()
        return filters.task_query(given, self._scope.base(request), self._scope.filters, zone)

    def _wanted(self, request: Request, given: Given) -> TaskQuery:
        wanted = self._query(request, given)
        filters.refuse_all(wanted, given, self._filters, self._scope.base(request))
        return wanted
