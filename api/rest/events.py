"""`/monitor/events`: every transition once, in the order of commits: as pages of JSON, or as server-sent events."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api import answers
from api.answers import Busy, Gone, Route
from api.rest import documents, parameters, single
from api.rest.parameters import Given, Parameter
from api.security import Reader
from archive import db
from tasks import events
from tasks.events import Cursor, CursorExpiredError, Page

router = APIRouter(prefix="/monitor", tags=["events"], route_class=Route)

_STREAM = "text/event-stream"

#: Seconds between two looks for what has happened.
_LOOK_EVERY_S = 0.5
#: Seconds after which a follower that has heard nothing is told that we are here.
_SILENCE_S = 15.0
#: Seconds that a request may wait for something to happen.
_LONGEST_WAIT_S = 60

#: Followers of one process; each asks the database twice a second and holds nothing in between.
_followers = threading.BoundedSemaphore(32)

_KNOWN = (
    Parameter(
        "after", "Only what follows: `next` of the answer before, or `latest`: what happens from now on; absent: all."
    ),
    Parameter(
        "limit", f"Transitions at most; absent: {events.MOST}.",
        {"type": "integer", "minimum": 1, "maximum": events.MOST},
    ),
    Parameter(
        "wait", "Seconds to wait for something to happen; absent: none.",
        {"type": "integer", "minimum": 0, "maximum": _LONGEST_WAIT_S},
    ),
)  # fmt: skip

_LAST_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Of a server-sent event: go on behind it; wins over `after`.",
    "schema": {"type": "string"},
}

_GONE: dict[int | str, Any] = {
    410: ("The cursor is of another life of the database; `first` of the answer is the first valid one.", None)
}


@router.get(
    "/events",
    operation_id="events",
    **documents.of(
        *_KNOWN,
        answer=documents.thing({"events": documents.array(documents.EVENT), "next": documents.TEXT}),
        also=(_STREAM,),
        more=_GONE,
        extra=(_LAST_ID,),
    ),
)
async def follow(request: Request, _caller: Reader) -> Response:
    """Return what happened to tasks since a cursor, or follow it: `Accept: text/event-stream`."""
    given = parameters.read(request, _KNOWN)
    limit = given.number("limit", 1, events.MOST) or events.MOST
    wait_s = given.number("wait", 0, _LONGEST_WAIT_S) or 0
    cursor = await anyio.to_thread.run_sync(_start, request, given)
    page = await _read(cursor, limit)
    if _STREAM in request.headers.get("accept", "").lower():
        return answers.warned(_stream(page, limit), given.warnings)
    with anyio.move_on_after(wait_s):
        while wait_s and not page.transitions:
            await anyio.sleep(_LOOK_EVERY_S)
            page = await _read(page.cursor, limit)
    return answers.as_json({"events": _events(page), "next": str(page.cursor)}, warnings=given.warnings)


def _start(request: Request, given: Given) -> Cursor | None:
    text = request.headers.get("last-event-id") or given.one("after")
    if text is None:
        return None
    if text == "latest":
        with db.transaction() as session:
            return events.latest(session)
    return Cursor.parse(text)


async def _read(cursor: Cursor | None, limit: int) -> Page:
    def read() -> Page:
        with db.transaction() as session:
            return events.read(session, cursor, limit)

    try:
        return await anyio.to_thread.run_sync(read)
    except CursorExpiredError as error:
        raise Gone(str(error), {"first": str(error.first)}) from error


def _stream(page: Page, limit: int) -> Response:
    if not _followers.acquire(blocking=False):
        raise Busy("too many follow the events of this process; try again")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return _Stream(_written(page, limit), media_type=_STREAM, headers=headers)


class _Stream(StreamingResponse):
    """Gives the follower's place back, also if the client goes before the first part."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _followers.release()


async def _written(page: Page, limit: int) -> AsyncIterator[bytes]:
    # Where to go on if nothing happens before the line breaks.
    yield f"retry: 2000\nid: {page.cursor}\nevent: here\ndata: {{}}\n\n".encode()
    silent_s = 0.0
    while True:
        if page.transitions:
            yield _block(page)
            silent_s = 0.0
        else:
            await anyio.sleep(_LOOK_EVERY_S)
            silent_s += _LOOK_EVERY_S
            if silent_s >= _SILENCE_S:
                yield b": nothing happened\n\n"
                silent_s = 0.0
        try:
            page = await _read(page.cursor, limit)
        except db.OUTAGES:
            return  # the client comes back with the last id that it saw


def _block(page: Page) -> bytes:
    return b"".join(
        f"id: {place}\nevent: transition\n".encode() + b"data: " + answers.to_json(one) + b"\n\n"
        for place, one in zip(page.places, _events(page), strict=True)
    )


def _events(page: Page) -> list[dict[str, object]]:
    return [{"taskID": one.task_id, **single.transition(one)} for one in page.transitions]
