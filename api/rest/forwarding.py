"""Bulk calls about a foreign device: its tasks are in another table, so the device itself is asked.

Task numbers mean nothing there: only calls that name the device by `dicomDeviceName` go, never one about a task id.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urljoin

import httpx
from fastapi import Request, Response
from sqlalchemy import select

from api import answers, audit
from api.answers import BadRequest, Busy, RequestError
from api.rest.parameters import Given
from api.security import Caller, is_loopback
from archive import configuration, db
from config import archive_service, settings
from config.device import Device
from tasks.control import ClusterIdentity

#: Ids of the clusters that a request came through; one that comes again goes in circles.
CAME_THROUGH = "Arcfleet-Clusters"

#: Each of them keeps one of our threads from other requests, as long as the device takes.
_at_once = threading.BoundedSemaphore(4)

_CONNECT_S = 5.0
#: A bulk call over a million tasks takes half a minute.
_ANSWER_S = 300.0

#: What of a request is of use to whoever answers it, and what of the answer to whoever asked.
_PASSED_ON = ("accept", "authorization", "idempotency-key", "prefer", "user-agent")
_RELAYED = ("content-type", "preference-applied", "retry-after", "www-authenticate")


class Unreachable(RequestError):
    """The device that is asked for cannot be reached."""

    status = HTTPStatus.BAD_GATEWAY


class Silent(RequestError):
    """The device that is asked for does not answer; what it did is not known."""

    status = HTTPStatus.GATEWAY_TIMEOUT


class Circle(RequestError):
    """The request has been here before."""

    status = HTTPStatus.LOOP_DETECTED


#: What the OpenAPI document says of bulk calls besides what it says of all.
ERRORS: Mapping[int | str, tuple[str, None]] = {
    int(Unreachable.status): ("The foreign device that dicomDeviceName names cannot be reached.", None),
    int(Silent.status): ("The foreign device does not answer in time.", None),
    int(Circle.status): ("The URL of the foreign device leads back to this cluster.", None),
}


def forwarded(request: Request, caller: Caller, given: Given) -> Response | None:
    """Return the answer of the foreign device that a bulk call names; None: it names none.

    Args:
        request: the call, which the caller may make here too.
        caller: whose authorization is passed on as it came.
        given: its parameters.

    Raises:
        BadRequest: it names foreign devices and others, or a foreign device and task ids.
        Unreachable: the device's URL cannot be derived, or nobody answers there.
        Silent: it does not answer in time.
        Circle: the URL leads back to this cluster.
        Busy: too many such calls wait for their answers.
    """
    device = _foreign(given)
    if device is None:
        return None
    if given.all("taskID"):
        raise BadRequest(
            f"taskID: the tasks of Device: {device.name} are in another table, where the numbers of ours mean others"
        )
    own = _cluster_id()
    before = [one.strip() for one in ",".join(request.headers.getlist(CAME_THROUGH)).split(",") if one.strip()]
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
    query = answers.without_token(request)
    target = base + request.url.path[_end_of_base(request) :] + (f"?{query}" if query else "")
    if not _at_once.acquire(blocking=False):
        raise Busy("too many calls about foreign devices wait for their answers; try again")
    try:
        with audit.recorded(caller, "ForwardTasks", f"{request.method} {target}") as entry:
            answer = _ask(request, device, target, [*before, own])
            counts = _counts(answer)
            entry.count, entry.failed = counts.get("count"), counts.get("failed")
    finally:
        _at_once.release()
    return answers.warned(_relayed(answer, target), given.warnings)


def _foreign(given: Given) -> Device | None:
    """Return the foreign archive device that is named."""
    known = configuration.current().devices
    names = dict.fromkeys(name for name in given.all("dicomDeviceName") if name != "*")
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


def _cluster_id() -> str:
    with db.transaction() as session:
        return str(session.scalars(select(ClusterIdentity.id)).one())


def _end_of_base(request: Request) -> int:
    # Source: forwarding of dcm4chee-arc: what follows the first segment of the path, whatever it is called there.
    return request.url.path.index("/", 1)


def _ask(request: Request, device: Device, target: str, through: list[str]) -> httpx.Response:
    url = httpx.URL(target)
    # Without the query: nobody needs it to see what is wrong.
    where = f"Device: {device.name} at {url.copy_with(query=None)}"
    try:
        with httpx.Client(
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            verify=_trusted(),
            trust_env=not is_loopback(url.host),
        ) as client:
            return client.request(request.method, target, headers=_headers(request, through))
    except httpx.ReadTimeout as error:
        raise Silent(f"{where} does not answer within {_ANSWER_S:g} s; what it did is not known") from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Unreachable(f"{where} cannot be reached: {error}") from error


def _headers(request: Request, through: list[str]) -> dict[str, str]:
    """Return what is passed on; a token that came in the query goes in a header, where nobody logs it."""
    passed = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    tokens = [value for name, value in parse_qsl(request.url.query) if name.lower() == "access_token"]
    if tokens and "authorization" not in passed:
        passed["authorization"] = f"Bearer {tokens[0]}"
    return passed | {CAME_THROUGH: ",".join(through)}


def _trusted() -> ssl.SSLContext:
    """Return what certificates are checked by: ours (ARCFLEET_TLS_CA), else those of the system."""
    authority = settings.current().tls_ca
    return ssl.create_default_context(cafile=None if authority is None else str(authority))


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


def _counts(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) and answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else {}
