"""Bulk calls about a foreign device: its tasks are in another table, so the device itself is asked.

Task numbers mean nothing there: only calls that name the device by `dicomDeviceName` go, never one about a task id.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, urljoin

import httpx
from fastapi import Request, Response
from sqlalchemy import select

from api import answers, audit
from api.answers import BadRequest, Busy, Forbidden, RequestError
from api.rest import foreign_node
from api.rest.calls import Call
from api.rest.foreign_node import ForeignNode, Silent, Unreachable
from api.rest.parameters import Given
from archive import configuration, db
from archive.accounts import Role
from config import archive_service, settings
from config.device import Device
from tasks import wish
from tasks.control import ClusterIdentity
from tasks.wish import Action

#: Ids of the clusters that a request came through; one that comes again goes in circles.
CAME_THROUGH = "Arcfleet-Clusters"

#: Each of them keeps one of our threads from other requests, as long as the device takes.
_at_once = threading.BoundedSemaphore(4)

#: What of a request is of use to whoever answers it, and what of the answer to whoever asked.
_PASSED_ON = ("accept", "authorization", "idempotency-key", "prefer", "user-agent")
_RELAYED = ("content-type", "preference-applied", "retry-after", "www-authenticate")


class Circle(RequestError):
    """The request has been here before."""

    status = HTTPStatus.LOOP_DETECTED


#: What the OpenAPI document says of bulk calls besides what it says of all.
ERRORS: Mapping[int | str, tuple[str, None]] = {
    int(Unreachable.status): ("The foreign device that dicomDeviceName names cannot be reached.", None),
    int(Silent.status): ("The foreign device does not answer in time.", None),
    int(Circle.status): ("The URL of the foreign device leads back to this cluster.", None),
}


def forwarded(call: Call) -> Response | None:
    """Return the answer of the foreign device that a bulk call names; None: it names none.

    Raises:
        BadRequest: it names foreign devices and others, or a foreign device and task ids.
        Forbidden: the caller may change its own tasks alone, and whose those there are is not known here.
        ConflictError: it says what only arcfleet knows, and the device is not shown to be arcfleet.
        Unreachable: the device's URL cannot be derived, or nobody answers there.
        Silent: it does not answer in time.
        Circle: the URL leads back to this cluster.
        Busy: too many such calls wait for their answers.
    """
    device = _foreign(call.given)
    if device is None:
        return None
    _refuse(call, device)
    own = _cluster_id()
    before = [one.strip() for one in ",".join(call.request.headers.getlist(CAME_THROUGH)).split(",") if one.strip()]
    base = archive_service.url_of(device)
    if own in before:
        raise Circle(
            f"Device: {device.name} is not run by cluster {own}, and the request has been here before; "
            f"expected that {base or 'the URL of the device'} leads to the device itself"
        )
    if base is None:
        raise Unreachable(
            f"Device: {device.name} cannot be reached: its URL cannot be derived, expected a web application of class "
            f"{archive_service.SERVICE_CLASS} with an installed HTTP connection"
        )
    if not _at_once.acquire(blocking=False):
        raise Busy("too many calls about foreign devices wait for their answers; try again")
    try:
        return _answer(call, ForeignNode(device.name, base, _headers(call.request, [*before, own])))
    finally:
        _at_once.release()


def _foreign(given: Given) -> Device | None:
    """Return the foreign archive device that is named."""
    known = configuration.current().devices
    names = dict.fromkeys(given.all("dicomDeviceName"))
    foreign = [known[name] for name in names if name in known and _is_foreign(known[name])]
    if not foreign:
        return None
    if len(names) > 1:
        raise BadRequest(
            f"dicomDeviceName={foreign[0].name}: it is not run by arcfleet here and is asked itself, "
            f"expected it alone and not with {', '.join(name for name in names if name != foreign[0].name)}"
        )
    return foreign[0]


def _is_foreign(device: Device) -> bool:
    return device.is_archive and not device.is_ours


def _refuse(call: Call, device: Device) -> None:
    """Refuse what would be refused here too, or would mean something else there."""
    if call.given.all("taskID"):
        raise BadRequest(
            f"taskID: the tasks of Device: {device.name} are in another table, where the numbers of ours mean others"
        )
    if not call.caller.may(Role.OPERATOR):
        raise Forbidden(
            f"{call.caller.name} has the role {call.caller.role}, which changes its own tasks alone; expected "
            f"{Role.OPERATOR} or more for those of Device: {device.name}, which is not run by arcfleet here"
        )
    foreign_node.refuse_own(call.wished.change.devices, device.name)
    if call.wished.action is Action.CANCEL:
        wish.check(call.wished)


def _cluster_id() -> str:
    with db.transaction() as session:
        return str(session.scalars(select(ClusterIdentity.id)).one())


def _answer(call: Call, node: ForeignNode) -> Response:
    zone = settings.current().zone()
    beyond = call.beyond_the_original(call.parameters(zone))
    if beyond:
        node.see_that_it_is_ours(beyond)
    if call.wished.change.scheduled_time is not None:
        zone = node.zone(f"scheduledTime={call.given.one('scheduledTime')}")
    parameters = call.parameters(zone)
    method, path = call.request.method, call.request.url.path[_end_of_base(call.request) :]
    target = httpx.URL(node.base + path, params=parameters)
    with audit.recorded(call.caller, "ForwardTasks", f"{method} {target}") as entry:
        answer = node.ask(method, path, parameters)
        if answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            counts = foreign_node.object_of(answer)
            entry.count, entry.failed = counts.get("count"), counts.get("failed")
    return answers.warned(_relayed(answer, str(target)), call.given.warnings)


def _end_of_base(request: Request) -> int:
    # Source: forwarding of dcm4chee-arc: what follows the first segment of the path, whatever it is called there.
    return request.url.path.index("/", 1)


def _headers(request: Request, through: list[str]) -> dict[str, str]:
    """Return what is passed on; a token that came in the query goes in a header, where nobody logs it."""
    passed = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    tokens = [value for name, value in parse_qsl(request.url.query) if name.lower() == "access_token"]
    if tokens and "authorization" not in passed:
        passed["authorization"] = f"Bearer {tokens[0]}"
    return passed | {CAME_THROUGH: ",".join(through)}


def _relayed(answer: httpx.Response, target: str) -> Response:
    made = Response(answer.content, answer.status_code)
    for name, value in _kept(answer.headers):
        made.headers.append(name, value)
    if "location" in answer.headers:
        # Where an operation can be followed: there, not here.
        made.headers["location"] = urljoin(target, answer.headers["location"])
    return made


def _kept(headers: httpx.Headers) -> Iterator[tuple[str, str]]:
    for name, value in headers.multi_items():
        if name in (*_RELAYED, "warning"):
            yield name, value
