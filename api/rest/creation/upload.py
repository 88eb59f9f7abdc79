"""CSV that is uploaded: kept on disk if it is long, checked as a whole, then read again as the tasks are made."""

from __future__ import annotations

import codecs
import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from api.answers import BadRequest, TooLarge, UnsupportedMediaType
from api.rest.creation import asking
from archive.query import Entity

#: Bytes that are held in memory.
_IN_MEMORY = 4 * 1024 * 1024
#: Bytes of the largest upload: about ten million UIDs.
LARGEST = 1024**3
#: So many lines that cannot be used are named.
_NAMED = 10
_LARGEST_COLUMN = 1000

_DELIMITERS = {None: ",", "comma": ",", "semicolon": ";"}
_CHARSETS = frozenset({None, "utf-8", "utf8", "us-ascii", "ascii"})
_EXPECTED = "text/csv or text/csv;delimiter=semicolon, in UTF-8"


@dataclass(frozen=True, slots=True)
class Body:
    """A CSV as it was sent."""

    file: IO[bytes]
    delimiter: str
    #: SHA-256, hexadecimal.
    digest: str


async def _spooled(request: Request) -> Body:
    # Without an end of its own: routes run in another task, in which that could not be. Who reads it closes it.
    delimiter = _delimiter(request.headers.get("content-type", ""))
    digest, size = hashlib.sha256(), 0
    file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - see above
    try:
        async for part in request.stream():
            size += len(part)
            if size > LARGEST:
                raise TooLarge(f"the body has more than {LARGEST:,} bytes: expected several smaller ones")
            digest.update(part)
            file.write(part)
    except BaseException:
        file.close()
        raise
    return Body(file, delimiter, digest.hexdigest())


Spooled = Annotated[Body, Depends(_spooled)]


def _delimiter(content_type: str) -> str:
    media_type, *pieces = (piece.strip() for piece in content_type.split(";"))
    said = {name.strip().lower(): value.strip('" ').lower() for name, _, value in (p.partition("=") for p in pieces)}
    is_known = said.get("delimiter") in _DELIMITERS and said.get("charset") in _CHARSETS
    if media_type.lower() != "text/csv" or not is_known:
        raise UnsupportedMediaType(f"content-type {content_type or 'is missing'}: expected {_EXPECTED}")
    return _DELIMITERS[said.get("delimiter")]


def column(name: str, text: str) -> int:
    """Return the number of a column, the first one is 1.

    Raises:
        BadRequest: it is none.
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST_COLUMN)) else 0
    if not 1 <= number <= _LARGEST_COLUMN:
        raise BadRequest(f"csv:{text}: expected the number of the column of the {name}, from 1 to {_LARGEST_COLUMN}")
    return number


class Upload:
    """The entities of a CSV, one a line; a source of `tasks.creating`, positions are numbers of lines."""

    def __init__(self, body: Body, columns: Sequence[tuple[str, int]]) -> None:
        """Read a CSV whose entities are in these columns: names of UIDs with numbers, the study first."""
        self._body = body
        self._columns = tuple(columns)
        self._rest: Iterator[tuple[int, Entity | str]] = iter(())
        self._at = ""
        #: Why nothing can be made of it, once it was checked.
        self.nothing = "the CSV names no study"

    def check(self) -> int:
        """Return how many lines name an entity; `nothing` says why there is none.

        Raises:
            BadRequest: some lines can be used and others cannot; the text names the first of those and why.
        """
        number, wrong = 0, 0
        first: list[str] = []
        for line, found in self._lines():
            if isinstance(found, Entity):
                number += 1
            else:
                wrong += 1
                first += [f"line {line}: {found}"] if len(first) < _NAMED else []
        if wrong:
            more = f"; and {wrong - len(first)} more" if wrong > len(first) else ""
            said = f"{wrong} of {wrong + number} lines cannot be used, no task was made: {'; '.join(first)}{more}"
            if number:
                raise BadRequest(said)
            self.nothing = said
        return number

    def after(self, session: Session, position: str, limit: int) -> list[tuple[str, Entity]]:
        """Return the next entities behind a line."""
        del session
        if position != self._at or not position:
            behind = int(position or 0)
            self._rest = (one for one in self._lines() if one[0] > behind)
        found = [(str(line), one) for line, one in islice(self._rest, limit) if isinstance(one, Entity)]
        self._at = found[-1][0] if found else position
        return found

    def _lines(self) -> Iterator[tuple[int, Entity | str]]:
        """Yield each line with its entity, or with what is wrong with it; blank ones and a header are left out."""
        self._body.file.seek(0)
        reader = csv.reader(_decoded(self._body.file), delimiter=self._body.delimiter, strict=True)
        is_first = True
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield line, f"is no CSV: {error}"
                return
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                if not (is_first and self._is_header(cells)):
                    yield line, self._entity(cells)
                is_first = False

    def _entity(self, cells: list[str]) -> Entity | str:
        uids = []
        for name, number in self._columns:
            if number > len(cells):
                return f"has {len(cells)} columns, expected the {name} in column {number}"
            uid = cells[number - 1].strip()
            if not asking.is_uid(uid):
                return f"{name} {uid[:80]!r} in column {number}: expected a UID, digits and dots"
            uids.append(uid)
        return Entity(*uids)

    def _is_header(self, cells: list[str]) -> bool:
        # A damaged UID is no title of a column: that begins with a letter.
        named = [cells[number - 1].strip() for _, number in self._columns if number <= len(cells)]
        return len(named) == len(self._columns) and all(cell[:1].isalpha() for cell in named)


def _decoded(file: IO[bytes]) -> Iterator[str]:
    # Other columns may be in any character set: those of UIDs are ASCII.
    for number, line in enumerate(file):
        yield (line if number else line.removeprefix(codecs.BOM_UTF8)).decode("utf-8", "surrogateescape")
