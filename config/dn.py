"""Distinguished names: read, compare and write them. Source: RFC 4514."""

from __future__ import annotations

import re

#: One relative name: its attribute types and values, sorted.
Rdn = tuple[tuple[str, str], ...]
#: A name in the form in which equal names are equal; the root is the last element.
Dn = tuple[Rdn, ...]

#: Attributes whose values differ when only their letter case does (caseExact... in the schemas).
_CASE_EXACT = frozenset(
    name.lower()
    for name in (
        "dicomAETitle",
        "dcmQueueName",
        "dcmExporterID",
        "dcmWebAppName",
        "dcmStorageID",
        "arcFileSystemGroupID",
    )
)
_PAIR = re.compile(
    r" *(?P<type>[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*) *="
    r" *(?P<value>(?:\\[0-9A-Fa-f]{2}|\\[ \"#+,;<=>\\]|[^\\\"+,;<>\x00])*)(?P<end>[,+]|\Z)"
)
_ESCAPED = re.compile(r"(?:\\[0-9A-Fa-f]{2})+|\\.")


def parse(text: str) -> Dn:
    """Read a name and fold what does not matter: letter case, order within an RDN, blanks.

    Raises:
        ValueError: not a distinguished name.
    """
    return tuple(
        tuple(sorted((kind.lower(), _folded(kind.lower(), value)) for kind, value in rdn)) for rdn in _rdns(text)
    )


def first_rdn(text: str) -> list[tuple[str, str]]:
    """Return the attributes and unescaped values that name the entry within its parent."""
    return _rdns(text)[0]


def parent(text: str) -> str:
    """Return the name of the entry above, as it is written; empty at the root."""
    position = 0
    while (match := _PAIR.match(text, position)) is not None and match["end"] == "+":
        position = match.end()
    return text[match.end() :] if match is not None else ""


def same_value(attribute: str, left: str, right: str) -> bool:
    """Tell whether two values of a naming attribute are equal by its matching rule."""
    return _folded(attribute.lower(), left) == _folded(attribute.lower(), right)


def child(attribute: str, value: str, parent: str) -> str:
    """Write the name of an entry below `parent`."""
    return f"{attribute}={escape(value)},{parent}"


def escape(value: str) -> str:
    """Write a value so that it can stand in a name."""
    escaped = re.sub(r'([\\"+,;<>=])', r"\\\1", value).replace("\x00", "\\00")
    if escaped.startswith((" ", "#")):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and len(value) > 1:
        escaped = escaped[:-1] + "\\ "
    return escaped


def _rdns(text: str) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = [[]]
    position = 0
    while True:
        match = _PAIR.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is not a distinguished name")
        found[-1].append((match["type"], _unescape(match["value"])))
        position = match.end()
        if match["end"] == ",":
            found.append([])
        elif match["end"] == "":
            return found


def _unescape(raw: str) -> str:
    # A blank at the end counts only when it is escaped.
    bare = raw.rstrip(" ")
    if len(bare) < len(raw) and re.search(r"(?<!\\)(?:\\\\)*\\$", bare):
        bare += " "
    return _ESCAPED.sub(_character, bare)


def _character(match: re.Match[str]) -> str:
    if re.fullmatch(r"(?:\\[0-9A-Fa-f]{2})+", match[0]):
        return bytes.fromhex(match[0].replace("\\", "")).decode("utf-8", "surrogateescape")
    return match[0][1]


def _folded(attribute: str, value: str) -> str:
    folded = re.sub(" +", " ", value).strip()
    return folded if attribute in _CASE_EXACT else folded.casefold()
