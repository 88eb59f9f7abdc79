"""LDIF as lines: records with the place of each value, so that a change leaves all other bytes alone.

Written instead of using the `ldif` package, which knows neither line numbers nor places, and reads broken
base64 and values by URL without a word as something else. Source: RFC 2849.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from config import dn
from config.entry import Entry
from config.errors import MalformedLdif

_ATTRIBUTE = re.compile(rb"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*)(?:;[A-Za-z0-9-]+)*")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One attribute value and the physical lines that hold it: from `first` up to, not including, `end`."""

    attribute: str
    value: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Record:
    """One entry; the first line is its dn."""

    lines: tuple[Line, ...]

    @property
    def entry(self) -> Entry:
        """The entry without places."""
        attributes: dict[str, list[str]] = {}
        spelling: dict[str, str] = {}
        for line in self.lines[1:]:
            name = spelling.setdefault(line.attribute.lower(), line.attribute)
            attributes.setdefault(name, []).append(line.value)
        return Entry(self.lines[0].value, attributes)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole file: all its physical lines with their ends, and what they mean."""

    physical: tuple[bytes, ...]
    records: tuple[Record, ...]


def parse(data: bytes, path: Path | str) -> Document:
    """Read the content records of a file; comments stay in the physical lines only.

    Raises:
        MalformedLdif: names the file, the line and what was expected.
    """
    physical = tuple(io.BytesIO(data).readlines())
    records: list[Record] = []
    open_lines: list[Line] = []
    seen: dict[dn.Dn, int] = {}
    for line in [*_lines(physical, path), None]:
        if line is not None:
            if line.attribute.lower() == "version" and not records and not open_lines:
                _expect(line.value == "1", path, line.first, line.value, "version: 1")
                continue
            _expect_place(line, open_lines, path)
            open_lines.append(line)
        elif open_lines:
            record = Record(tuple(open_lines))
            _expect_unseen(record, seen, path)
            records.append(record)
            open_lines = []
    return Document(physical, tuple(records))


def modified(document: Document, record: Record, changes: Mapping[str, Sequence[str]]) -> bytes:
    """Return the file with other values for some attributes of one record; every other byte stays.

    A value that stays in its place keeps its line as it is, comments in the record stay too.

    Args:
        document: the file.
        record: one of its records.
        changes: attribute -> all its new values; none removes the attribute.
    """
    newline = b"\r\n" if document.physical[record.lines[0].first].endswith(b"\r\n") else b"\n"
    replaced: dict[int, list[bytes]] = {}
    last = record.lines[-1].end - 1
    appended: list[bytes] = []
    for attribute, values in changes.items():
        held = [line for line in record.lines[1:] if line.attribute.lower() == attribute.lower()]
        new = [_written(held[0].attribute if held else attribute, value) + newline for value in values]
        for place, line in enumerate(held):
            if place < len(values) and line.value == values[place]:
                continue
            replaced |= {number: [] for number in range(line.first, line.end)}
            replaced[line.first] = new[place : place + 1]
        surplus = new[len(held) :]
        if held and surplus:
            end = held[-1].end - 1
            replaced[end] = [*replaced.get(end, [_ended(document.physical[end], newline)]), *surplus]
        else:
            appended += surplus
    if appended:
        replaced[last] = [*replaced.get(last, [_ended(document.physical[last], newline)]), *appended]
    return b"".join(part for number, line in enumerate(document.physical) for part in replaced.get(number, [line]))


def written(entries: Sequence[Entry]) -> str:
    """Write entries as LDIF, without folding lines."""
    blocks = ["version: 1\n"]
    for entry in entries:
        pairs = [("dn", entry.dn)] + [(name, value) for name, held in entry.attributes.items() for value in held]
        blocks.append("".join(_written(name, value).decode("ascii") + "\n" for name, value in pairs))
    return "\n".join(blocks)


def _lines(physical: Sequence[bytes], path: Path | str) -> Iterator[Line | None]:
    """Unfold the lines; comments are left out, None stands for a blank line."""
    number = 0
    while number < len(physical):
        first, raw = number, physical[number].rstrip(b"\r\n")
        if number == 0:
            raw = raw.removeprefix(_BOM)
        number += 1
        while number < len(physical) and raw and physical[number].startswith(b" "):
            raw += physical[number].rstrip(b"\r\n")[1:]
            number += 1
        if not raw:
            yield None
        elif not raw.startswith(b"#"):
            yield _line(raw, first, number, path)


def _line(raw: bytes, first: int, end: int, path: Path | str) -> Line:
    def malformed(expected: str) -> MalformedLdif:
        text = raw.decode("utf-8", "backslashreplace")
        return MalformedLdif(path, first + 1, text if len(text) <= 80 else text[:77] + "...", expected)

    if raw.startswith((b" ", b"\t")):
        raise malformed("a line that does not begin with a blank, or a line before it that it continues")
    name, colon, rest = raw.partition(b":")
    if not colon or _ATTRIBUTE.fullmatch(name) is None:
        raise malformed("'attribute: value', '# comment' or an empty line")
    if rest.startswith(b"<"):
        raise malformed("the value itself; values by URL (:<) are not read")
    if rest.startswith(b":"):
        try:
            value = base64.b64decode(rest[1:].strip(b" "), validate=True)
        except binascii.Error:
            raise malformed("valid base64 after '::'") from None
        return Line(name.decode("ascii"), value.decode("utf-8", "surrogateescape"), first, end)
    try:
        return Line(name.decode("ascii"), rest.lstrip(b" ").decode("utf-8"), first, end)
    except UnicodeDecodeError:
        raise malformed("UTF-8, or base64 after '::'") from None


def _expect(condition: bool, path: Path | str, line: int, text: str, expected: str) -> None:
    if not condition:
        raise MalformedLdif(path, line + 1, text, expected)


def _expect_place(line: Line, before: Sequence[Line], path: Path | str) -> None:
    """A record begins with its dn, has no other, and is no change record."""
    shown = f"{line.attribute}: {line.value}"
    name = line.attribute.lower()
    if not before:
        _expect(name == "dn", path, line.first, shown, "'dn: ...' as the first line of an entry")
    else:
        _expect(name != "dn", path, line.first, shown, "an empty line before the next entry")
        _expect(name != "changetype", path, line.first, shown, "an entry, not a change record")


def _expect_unseen(record: Record, seen: dict[dn.Dn, int], path: Path | str) -> None:
    line = record.lines[0]
    try:
        name = dn.parse(line.value)
    except ValueError:
        raise MalformedLdif(path, line.first + 1, f"dn: {line.value}", "a distinguished name") from None
    first = seen.setdefault(name, line.first)
    expected = f"each entry once, this one is at line {first + 1} too"
    _expect(first == line.first, path, line.first, f"dn: {line.value}", expected)


def _written(attribute: str, value: str) -> bytes:
    raw = value.encode("utf-8", "surrogateescape")
    safe = all(32 <= byte < 127 for byte in raw)  # readers differ in what they do to control characters
    if safe and not raw.startswith((b" ", b":", b"<")) and not raw.endswith(b" "):
        return attribute.encode("ascii") + b": " + raw
    return attribute.encode("ascii") + b":: " + base64.b64encode(raw)


def _ended(line: bytes, newline: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + newline
