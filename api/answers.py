"""What a request is answered: results of bulk calls, errors in the wire's form, warnings."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_plus

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from api.gate import AwayError, Gate, Probe
from archive import db
from archive.errors import ArchiveError
from config.errors import ConfigError
from tasks.bulk import BulkResult
from tasks.errors import ConflictError, InvalidError, NotFoundError, TaskError

_log = structlog.get_logger()

PROBLEM = "application/problem+json"

#: Seconds after which a client should try again while the database is away.
_RETRY_AFTER_S = 2

#: So many different reasons of refusal are listed in an answer.
_LISTED_REFUSALS = 100


class RequestError(Exception):
    """A request that is not done; the base of those that only REST knows."""

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.headers = headers or {}
        self.more: dict[str, str] = {}


class BadRequest(RequestError):
    """A parameter is unknown, missing or cannot be used; nothing was changed."""


class Unauthorized(RequestError):
    """No token, or one that is not valid."""

    status = HTTPStatus.UNAUTHORIZED

    def __init__(self, message: str) -> None:
        super().__init__(message, {"WWW-Authenticate": 'Bearer realm="arcfleet"'})


class Forbidden(RequestError):
    """The role of the caller does not allow it."""

    status = HTTPStatus.FORBIDDEN


class NotFound(RequestError):
    """What the path names does not exist."""

    status = HTTPStatus.NOT_FOUND


class Gone(RequestError):
    """What was asked for is not kept any more; `more` is told beside the text."""

    status = HTTPStatus.GONE

    def __init__(self, message: str, more: dict[str, str]) -> None:
        super().__init__(message)
        self.more = more


class NotAcceptable(RequestError):
    """The service has no such format."""

    status = HTTPStatus.NOT_ACCEPTABLE


class TooLarge(RequestError):
    """It would be more than is allowed at once."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UnsupportedMediaType(RequestError):
    """The body is of a type that the service does not read."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class Busy(RequestError):
    """Too much is going on; trying again helps."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, message: str) -> None:
        super().__init__(message, {"Retry-After": str(_RETRY_AFTER_S)})


class Route(APIRoute):
    """A route whose errors become answers; one that the database holds up is answered 503."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the border around it."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                gate: Gate = request.app.state.gate
                await gate.passable()
                return await gate.unless_held_up(asyncio.ensure_future(inner(request)))
            except Exception as error:  # noqa: BLE001  # the border: nothing but an answer leaves
                return of_error(request, error)

        return handle


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means to whoever made the request."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Beside the message.
    more: Mapping[str, str] = field(default_factory=dict)
    #: What was expected, if the message does not say it: clients know that by heart.
    hint: str = ""


def of_error(request: Request, error: Exception) -> Response:
    """Return the answer to an error; an unexpected one is logged under an id and shows nothing of itself."""
    match error:
        case HTTPException():
            found = Verdict(error.status_code, _plain(error, request), dict(error.headers or {}))
        case RequestValidationError():
            found = Verdict(HTTPStatus.BAD_REQUEST, _described(error))
        case _:
            found = judge(error, f"{request.method} {request.url.path}", request.app.state.database_probe)
    made = failure(request, int(found.status), found.message, dict(found.headers), **found.more)
    return warned(made, [found.hint] if found.hint else [])


def judge(error: Exception, where: str, database: Probe) -> Verdict:
    """Return what an error of ours means; an unexpected one is logged under an id and shows nothing of itself.

    Args:
        error: whatever was raised.
        where: method and path of the request, for the log.
        database: is doubted if it was the database.
    """
    match error:
        case RequestError():
            return Verdict(error.status, str(error), error.headers, error.more)
        case NotFoundError():
            return Verdict(HTTPStatus.NOT_FOUND, str(error))
        case ConflictError():
            return Verdict(HTTPStatus.CONFLICT, str(error))
        case InvalidError():
            return Verdict(HTTPStatus.BAD_REQUEST, str(error), hint=error.hint)
        case AwayError():
            return _away(str(error))
        case _ if isinstance(error, db.OUTAGES):
            database.doubt()
            _log.warning("database away", request=where, error=db.first_line(error))
            return _away(db.first_line(error))
        case ConfigError() | ArchiveError() | TaskError():
            _log.error("request failed", request=where, error=str(error))
            return Verdict(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        case _:
            return Verdict(HTTPStatus.INTERNAL_SERVER_ERROR, _unexpected(where, error))


def failure(
    request: Request, status: int, message: str, headers: dict[str, str] | None = None, **more: str
) -> Response:  # fmt: skip
    """Return an error as text/plain with JSON in it, as dcm4chee does, or as a problem (RFC 9457) when asked."""
    if PROBLEM in request.headers.get("accept", "").lower():
        problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": message}
        return Response(to_json({**problem, "errorMessage": message, **more}), status, headers, PROBLEM)
    return Response(to_json({"errorMessage": message, **more}), status, headers, "text/plain;charset=utf-8")


def bulk(result: BulkResult) -> Response:
    """Return 200, or 202 when some tasks were refused, or 409 when all were."""
    listed = {"refusals": refusals(result)} if result.failed else {}
    if not result.failed:
        return as_json({"count": result.count})
    if result.count:
        return as_json({"count": result.count, "failed": result.failed, **listed}, HTTPStatus.ACCEPTED)
    return as_json({"failed": result.failed, **listed}, HTTPStatus.CONFLICT)


def preview(result: BulkResult) -> Response:
    """Return what a bulk call would do."""
    return as_json(
        {
            "dryrun": True,
            "count": result.count,
            "failed": result.failed,
            "byDevice": dict(sorted(result.by_device.items())),
            "byStatus": dict(sorted(result.by_status.items())),
            "refusals": refusals(result),
        }
    )


def as_json(value: object, status: int = HTTPStatus.OK, warnings: Iterable[str] = ()) -> Response:
    """Return a value as JSON without blanks."""
    return warned(Response(to_json(value), status, media_type="application/json"), warnings)


def empty(warnings: Iterable[str] = ()) -> Response:
    """Return 204."""
    return warned(Response(status_code=HTTPStatus.NO_CONTENT), warnings)


def warned(response: Response, warnings: Iterable[str]) -> Response:
    """Add a Warning header for each text."""
    for text in warnings:
        # What a client sent must not end the header, nor leave the character set of headers.
        plain = text.encode("ascii", "replace").decode().replace('"', "'")
        printable = "".join(character if character.isprintable() else "?" for character in plain)
        response.headers.append("Warning", f'299 arcfleet "{printable}"')
    return response


def without_token(request: Request) -> str:
    """Return the query string as it was sent, but for an access token."""
    parts = request.url.query.split("&")
    return "&".join(part for part in parts if unquote_plus(part.partition("=")[0]).lower() != "access_token")


def to_json(value: object) -> bytes:
    """Return JSON without blanks, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def refusals(result: BulkResult) -> list[dict[str, object]]:
    """Return why tasks were refused, the commonest reason first; the rarest ones together."""
    most = result.refusals.most_common(_LISTED_REFUSALS)
    listed: list[dict[str, object]] = [{"reason": reason, "count": number} for reason, number in most]
    rest = result.failed - sum(number for _, number in most)
    return [*listed, {"reason": "other reasons, not listed", "count": rest}] if rest else listed


def _away(why: str) -> Verdict:
    message = f"the database does not answer ({why}); try again"
    return Verdict(HTTPStatus.SERVICE_UNAVAILABLE, message, {"Retry-After": str(_RETRY_AFTER_S)})


def _plain(error: HTTPException, request: Request) -> str:
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return f"No such service: {request.url.path}"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"{request.method} is not allowed for {request.url.path}"
        case _:
            return str(error.detail)


def _described(error: RequestValidationError) -> str:
    first = error.errors()[0]
    return f"{first['loc'][-1]}: {first['msg']}"


def _unexpected(where: str, error: Exception) -> str:
    error_id = secrets.token_hex(6)
    _log.error("unexpected error", error_id=error_id, request=where, exc_info=error)
    return f"unexpected error, logged under {error_id}"
