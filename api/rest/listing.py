"""Lists of tasks as JSON or CSV: chosen as the client asks, written as they are read."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import tzinfo
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from api import answers
from api.answers import PROBLEM, Busy, NotAcceptable
from api.rest import copied, filters
from api.rest import shape as shapes
from api.rest.parameters import Given, Parameter
from api.rest.scope import Scope
from api.rest.shape import Shape
from archive import db
from tasks import query as queries
from tasks.query import Page, TaskQuery
from tasks.record import TaskView

#: Characters that are sent at once, about.
_CHUNK = 64 * 1024

#: Pages of at most so many tasks say where the next one begins.
_LINKED = 1000

#: Each list holds a connection to the database as long as its client reads.
_streams = threading.BoundedSemaphore(6)

_JSON = frozenset({"application/json", "application/*", "*/*"})
_CSV = frozenset({"text/csv", "text/*"})
_DELIMITERS = {None: ",", "semicolon": ";"}

ACCEPT = Parameter(
    "accept",
    "Wins over the header Accept: application/json, text/csv, or text/csv;delimiter=semicolon.",
)


@dataclass(frozen=True, slots=True)
class Format:
    """How a list is written; no delimiter: JSON."""

    delimiter: str | None = None

    @property
    def media_type(self) -> str:
        """The content type of the answer."""
        return "application/json" if self.delimiter is None else "text/csv;charset=utf-8"


@dataclass(frozen=True, slots=True)
class Written:
    """How the tasks of a list are written."""

    scope: Scope
    zone: tzinfo
    format: Format


def wanted_format(request: Request, given: Given, scope: Scope) -> Format:
    """Return the format that the client likes best.

    Raises:
        NotAcceptable: there is none that we have; tasks of several kinds have no common columns, so no CSV.
    """
    text = given.one("accept") or request.headers.get("accept", "*/*")
    ranges = sorted((_range(part) for part in text.split(",") if part.strip()), key=lambda one: -one[2])
    for media_type, delimiter, quality in ranges:
        if quality > 0 and media_type in _JSON:
            return Format()
        if quality > 0 and media_type in _CSV and delimiter in _DELIMITERS and scope.shape is not None:
            return Format(_DELIMITERS[delimiter])
    if any(media_type == PROBLEM for media_type, _, _ in ranges):
        return Format()  # of errors it wants problems, of lists it says nothing
    known = "one of application/json, text/csv, text/csv;delimiter=semicolon" if scope.shape else "application/json"
    raise NotAcceptable(f"accept {text}: expected {known}")


def answer(request: Request, wanted: TaskQuery, page: Page, how: Written) -> Response:
    """Return the tasks of a page; memory stays flat however many they are.

    Pages of at most 1,000 have a Link header to the next one, if there is one.

    Raises:
        Busy: too many lists are being read.
    """
    if not _streams.acquire(blocking=False):
        raise Busy("too many lists are being read at once; try again")
    if page.limit is not None and page.limit <= _LINKED:
        return _page(request, wanted, page, how)
    written = _chunks(wanted, page, how)
    # What fails before the first part is an answer of its own.
    first, second = next(written, b""), next(written, None)
    if second is None:
        return Response(first, media_type=how.format.media_type)
    return StreamingResponse(itertools.chain((first, second), written), media_type=how.format.media_type)


def _page(request: Request, wanted: TaskQuery, page: Page, how: Written) -> Response:
    limit = page.limit or 0
    try:
        with db.transaction() as session:
            # One more than asked for tells whether there is another page.
            found = list(queries.find(session, wanted, replace(page, limit=limit + 1)))
    finally:
        _streams.release()
    body = "".join(_parts(found[:limit], how))
    made = Response(body, media_type=how.format.media_type)
    if len(found) > limit:
        made.headers["Link"] = f'<{_next(request, filters.cursor(found[limit - 1], page.order))}>; rel="next"'
    return made


def _next(request: Request, after: str) -> str:
    kept = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name.lower() not in {"after", "offset", "access_token"}
    ]
    return f"{request.url.path}?{urlencode([*kept, ('after', after)])}"


def _chunks(wanted: TaskQuery, page: Page, how: Written) -> Iterator[str | bytes]:
    try:
        with db.transaction() as session:
            delimiter, shape = how.format.delimiter, how.scope.shape
            if delimiter is not None and shape is not None and copied.can_write(shape, how.zone):
                yield from copied.parts(session, wanted, page, shape, how.zone, delimiter)
                return
            held: list[str] = []
            size = 0
            for part in _parts(queries.find(session, wanted, page), how):
                held.append(part)
                size += len(part)
                if size >= _CHUNK:
                    yield "".join(held)
                    held, size = [], 0
            yield "".join(held)
    finally:
        _streams.release()


def _parts(tasks: Iterable[TaskView], how: Written) -> Iterator[str]:
    delimiter, shape = how.format.delimiter, how.scope.shape
    if delimiter is None or shape is None:  # what has no shape of its own has no CSV, see wanted_format()
        return _as_json(tasks, how)
    return as_csv(tasks, shape, how.zone, delimiter)


def _as_json(tasks: Iterable[TaskView], how: Written) -> Iterator[str]:
    separator = "["
    for task in tasks:
        shape = how.scope.shape or shapes.of_kind(task.kind)
        yield separator + answers.to_json(shapes.to_wire(task, shape, how.zone)).decode()
        separator = ","
    yield "[]" if separator == "[" else "]"


def as_csv(tasks: Iterable[TaskView], shape: Shape, zone: tzinfo, delimiter: str) -> Iterator[str]:
    """Yield the lines of tasks, the names of the columns first."""
    cells = shapes.csv_cells(shape)
    yield shapes.csv_line(shape.columns, delimiter)
    for task in tasks:
        yield shapes.csv_line((cell(task, zone) for cell in cells), delimiter)


def _range(part: str) -> tuple[str, str | None, float]:
    """Return media type, delimiter and quality of one part of an Accept header."""
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    said = dict(piece.partition("=")[::2] for piece in parameters if piece)
    try:
        quality = float(said.get("q", "1"))
    except ValueError:
        quality = 0.0
    return media_type, said.get("delimiter"), quality
