"""`/monitor/operations`: bulk calls that run by themselves: how far they are, and ending them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers, audit
from api.answers import Forbidden, NotFound, Route
from api.rest import documents, parameters, times
from api.rest.parameters import Parameter
from api.security import Reader, Submitter
from archive.accounts import Role
from config import settings
from tasks import kept_operations
from tasks.kept_operations import Operation

router = APIRouter(prefix="/monitor/operations", tags=["operations"], route_class=Route)

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_LISTED = 100

#: First parts of the paths of services that begin operations.
_SERVICES = ("/monitor/", "/queue/", "/devices/")
_MOST = 1000

_LIMIT = Parameter(
    "limit", f"Operations at most; absent: {_LISTED}.", {"type": "integer", "minimum": 1, "maximum": _MOST}
)


@router.get("", operation_id="operations", **documents.of(_LIMIT, answer=documents.array(documents.OPERATION)))
def listed(request: Request, _caller: Reader) -> Response:
    """List operations, the newest first."""
    given = parameters.read(request, (_LIMIT,))
    found = kept_operations.newest(given.number("limit", 1, _MOST) or _LISTED)
    return answers.as_json([to_wire(one) for one in found], warnings=given.warnings)


@router.get("/{operationID}", operation_id="operation", **documents.of(answer=documents.OPERATION))
def one(request: Request, _caller: Reader, operationID: str) -> Response:  # noqa: N803
    """Say how far an operation is."""
    given = parameters.read(request, ())
    return answers.as_json(to_wire(_get(operationID)), warnings=given.warnings)


@router.post("/{operationID}/cancel", operation_id="cancel_operation", **documents.of(status=204))
def cancel(request: Request, caller: Submitter, operationID: str) -> Response:  # noqa: N803
    """End an operation within a second or so; what it has changed by then stays changed."""
    given = parameters.read(request, ())
    found = _get(operationID)
    if not caller.may(Role.OPERATOR) and found.user != caller.name:
        raise Forbidden(f"Operation {found.id} was not asked for by {caller.name}: a submitter cancels only its own")
    with audit.recorded(caller, "CancelOperation", found.id) as entry:
        kept_operations.ask_to_stop(found.id, caller.by.actor)
        entry.count = 1
    return answers.empty(given.warnings)


def base_of(request: Request) -> str:
    """Return the part of the path before the services, as the client sees it."""
    path = request.url.path
    return path[: min(path.index(service) for service in _SERVICES if service in path)]


def to_wire(row: Operation) -> dict[str, Any]:
    """Return an operation as JSON."""
    return {
        "operationID": row.id,
        "state": row.state,
        "action": row.action,
        "request": row.request,
        "requester": f"{row.user}@{row.host}",
        "requestedTime": _time(row.requested_at),
        "startedTime": _time(row.started_at),
        "updatedTime": _time(row.updated_at),
        "endedTime": _time(row.ended_at),
        "total": row.total,
        "count": row.count,
        "failed": row.failed,
        "byDevice": dict(sorted(row.by_device.items())),
        "byStatus": dict(sorted(row.by_status.items())),
        "refusals": answers.refusals(row.result()),
        "stopAskedBy": row.stop_asked_by,
        "errorMessage": row.error,
    }


def _get(text: str) -> Operation:
    if not _ID.fullmatch(text.lower()):
        raise NotFound(f"No such Operation : {text}")
    return kept_operations.get(text.lower())


def _time(at: datetime | None) -> str | None:
    return None if at is None else times.written(at, settings.current().zone())
