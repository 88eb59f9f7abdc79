"""Lists of tasks as JSON or CSV: chosen as the client asks, written as they are read."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import tzinfo

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from api import answers
from api.answers import PROBLEM, Busy, NotAcceptable
from api.rest import copied
from api.rest import shape as shapes
from api.rest.parameters import Given, Parameter
from api.rest.shape import Shape
from archive import db
from tasks import query as queries
from tasks.query import Page, TaskQuery
from tasks.record import TaskView

#: Characters that are sent at once, about.
_CHUNK = 64 * 1024

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


def wanted_format(request: Request, given: Given) -> Format:
    """Return the format that the client likes best.

    Raises:
        NotAcceptable: there is none that we have.
    """
    text = given.one("accept") or request.headers.get("accept", "*/*")
    ranges = sorted((_range(part) for part in text.split(",") if part.strip()), key=lambda one: -one[2])
    for media_type, delimiter, quality in ranges:
        if quality > 0 and media_type in _JSON:
            return Format()
        if quality > 0 and media_type in _CSV and delimiter in _DELIMITERS:
            return Format(_DELIMITERS[delimiter])
    if any(media_type == PROBLEM for media_type, _, _ in ranges):
        return Format()  # of errors it wants problems, of lists it says nothing
    raise NotAcceptable(f"accept {text}: expected one of application/json, text/csv, text/csv;delimiter=semicolon")


def answer(wanted: TaskQuery, page: Page, shape: Shape, zone: tzinfo, how: Format) -> Response:
    """Return the tasks of a page; memory stays flat however many they are.

    Raises:
        Busy: too many lists are being read.
    """
    if not _streams.acquire(blocking=False):
        raise Busy("too many lists are being read at once; try again")
    written = _chunks(wanted, page, shape, zone, how)
    # What fails before the first part is an answer of its own.
    first, second = next(written, b""), next(written, None)
    if second is None:
        return Response(first, media_type=how.media_type)
    return StreamingResponse(itertools.chain((first, second), written), media_type=how.media_type)


def _chunks(wanted: TaskQuery, page: Page, shape: Shape, zone: tzinfo, how: Format) -> Iterator[str | bytes]:
    try:
        with db.transaction() as session:
            if how.delimiter is not None and copied.can_write(shape, zone):
                yield from copied.parts(session, wanted, page, shape, zone, how.delimiter)
                return
            tasks = queries.find(session, wanted, page)
            in_csv = how.delimiter is not None
            parts = as_csv(tasks, shape, zone, how.delimiter or ",") if in_csv else _as_json(tasks, shape, zone)
            held: list[str] = []
            size = 0
            for part in parts:
                held.append(part)
                size += len(part)
                if size >= _CHUNK:
                    yield "".join(held)
                    held, size = [], 0
            yield "".join(held)
    finally:
        _streams.release()


def _as_json(tasks: Iterable[TaskView], shape: Shape, zone: tzinfo) -> Iterator[str]:
    separator = "["
    for task in tasks:
        yield separator + answers.to_json(shapes.to_wire(task, shape, zone)).decode()
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
