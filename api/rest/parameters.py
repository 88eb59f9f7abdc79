"""Query parameters: which a service knows, which it forgives, and a 400 that names any other."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fastapi import Request

from api.answers import BadRequest

_TEXT: Mapping[str, Any] = MappingProxyType({"type": "string"})
_FLAG: Mapping[str, Any] = MappingProxyType({"type": "boolean", "default": False})

#: Sent by clients of the original where they mean nothing: accepted with a Warning.
IN_VAIN = frozenset({"orderby", "accept", "access_token", "createdTimeObject", "updatedTimeObject"})
#: The original's pages send these when they count.
PAGING = frozenset({"offset", "limit"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter of a service."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: _TEXT)
    repeatable: bool = False

    def documented(self) -> dict[str, Any]:
        """Return its entry in the OpenAPI document."""
        schema = dict(self.schema)
        return {
            "name": self.name,
            "in": "query",
            "required": False,
            "description": self.description,
            "schema": {"type": "array", "items": schema} if self.repeatable else schema,
        }


def flag(name: str, description: str) -> Parameter:
    """Return a parameter that is true or false."""
    return Parameter(name, description, _FLAG)


@dataclass(slots=True)
class Given:
    """The query parameters of a request, under the names that the service knows."""

    values: dict[str, list[str]] = field(default_factory=dict)
    #: What was ignored, for the Warning header.
    warnings: list[str] = field(default_factory=list)

    def one(self, name: str) -> str | None:
        """Return the value of a parameter; None: it was not given."""
        return self.values[name][0] if name in self.values else None

    def required(self, name: str) -> str:
        """Return the value of a parameter.

        Raises:
            BadRequest: it was not given.
        """
        value = self.one(name)
        if value is None:
            raise BadRequest(f"Missing query parameter: {name}")
        return value

    def all(self, name: str, *, commas: bool = False) -> tuple[str, ...]:
        """Return the values of a repeatable parameter, also of a list with commas.

        Raises:
            BadRequest: it was given, and there is nothing between the commas.
        """
        found = self.values.get(name, [])
        if not commas:
            return tuple(found)
        parts = tuple(part.strip() for value in found for part in value.split(",") if part.strip())
        if found and not parts:
            # Never a silent match of everything.
            raise BadRequest(f"{name}={','.join(found)}: expected a value, or several with commas between")
        return parts

    def is_true(self, name: str) -> bool:
        """Return a flag; false if it was not given.

        Raises:
            BadRequest: it is neither true nor false.
        """
        text = self.one(name)
        if text is None:
            return False
        if text.lower() not in {"true", "false"}:
            raise BadRequest(f"{name}={text}: expected true or false")
        return text.lower() == "true"

    def number(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number; None: it was not given.

        Raises:
            BadRequest: it is none, or not within the bounds.
        """
        text = self.one(name)
        if text is None:
            return None
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(high)) else -1
        if not low <= number <= high:
            raise BadRequest(f"{name}={text}: expected a number from {low} to {high}")
        return number

    def without_star(self, name: str) -> tuple[str, ...]:
        """Return the values of a parameter; `*` means all and says nothing."""
        found = self.all(name)
        if "*" in found:
            self.warn(f"{name}=* is ignored: leave it out to mean all")
            return ()
        return found

    def warn(self, text: str) -> None:
        """Say something in the Warning header."""
        if text not in self.warnings:
            self.warnings.append(text)


def read(request: Request, known: Sequence[Parameter], *, in_vain: Collection[str] = IN_VAIN) -> Given:
    """Return the query parameters of a request; the letter case of their names is forgiven.

    Raises:
        BadRequest: one is unknown (the text names the nearest known one), is given twice, or has no value.
    """
    items = request.query_params.multi_items()
    return take(items, known, changing=request.method != "GET", lenient=_is_lenient(request), in_vain=in_vain)


def take(
    items: Iterable[tuple[str, str]],
    known: Sequence[Parameter],
    *,
    changing: bool,
    lenient: bool = False,
    in_vain: Collection[str] = IN_VAIN,
) -> Given:
    """Return names and values as `read` does, wherever they come from.

    Args:
        items: names with values, as they were sent.
        known: what the service knows.
        changing: the request changes something, so that a parameter without a value is refused.
        lenient: unknown parameters are ignored.
        in_vain: what is ignored with a warning.

    Raises:
        BadRequest: as `read` does.
    """
    given = Given()
    by_name = {parameter.name.lower(): parameter for parameter in known}
    forgiven = {name.lower(): name for name in in_vain if name.lower() not in by_name}
    for name, value in items:
        parameter = by_name.get(name.lower())
        if parameter is not None:
            _take(given, parameter, value, changing=changing)
        elif name.lower() in forgiven or lenient:
            given.warn(f"query parameter {name} is ignored")
        elif name.lower() in PAGING:
            raise BadRequest(f"Query parameter {name} cannot be used here: all that matches is meant")
        else:
            raise BadRequest(_unknown(name, [parameter.name for parameter in known]))
    return given


def _take(given: Given, parameter: Parameter, value: str, *, changing: bool) -> None:
    if not value.strip():
        if changing:
            raise BadRequest(f"Query parameter {parameter.name} has no value: leave it out to mean all")
        given.warn(f"query parameter {parameter.name} is ignored: it has no value")
        return
    if not value.isprintable():
        raise BadRequest(f"{parameter.name}={value!r}: expected printable characters")
    held = given.values.setdefault(parameter.name, [])
    if held and not parameter.repeatable:
        raise BadRequest(f"Query parameter {parameter.name} is given more than once, expected one value")
    held.append(value)


def _is_lenient(request: Request) -> bool:
    # RFC 7240; never for a change, which would hit more than was meant.
    return request.method == "GET" and "handling=lenient" in request.headers.get("prefer", "").replace(" ", "").lower()


def _unknown(name: str, known: list[str]) -> str:
    lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0)
    return f"Unknown query parameter: {name}, " + (
        f"the nearest known one is {lower[near[0]]}" if near else "expected none"
    )
