"""An entry as every source gives it: a name and values by attribute."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the tree; attribute names keep their spelling, look-ups do not mind letter case.

    Bytes that are no UTF-8 are kept as surrogates (`surrogateescape`).
    """

    dn: str
    attributes: dict[str, list[str]] = field(default_factory=dict)

    def values(self, attribute: str) -> list[str]:
        """Return all values of the attribute, in the order of the source."""
        wanted = attribute.lower()
        return [value for name, values in self.attributes.items() if name.lower() == wanted for value in values]

    def has_class(self, name: str) -> bool:
        """Tell whether the entry has that object class."""
        return name.lower() in (value.lower() for value in self.values("objectClass"))

    def with_values(self, attribute: str, values: list[str]) -> Entry:
        """Return the entry with other values of one attribute; no values remove it."""
        wanted = attribute.lower()
        kept = {name: list(held) for name, held in self.attributes.items() if name.lower() != wanted}
        return Entry(self.dn, kept | ({attribute: list(values)} if values else {}))


def to_json(entry: Entry) -> dict[str, Any]:
    """Return the entry as JSON that PostgreSQL can hold; a value that is no text is an object with base64."""
    attributes = {name: [_to_json(value) for value in held] for name, held in entry.attributes.items()}
    return {"dn": entry.dn, "attributes": attributes}


def from_json(row: dict[str, Any]) -> Entry:
    """Return the entry that `to_json` wrote."""
    attributes = {name: [_from_json(value) for value in held] for name, held in row["attributes"].items()}
    return Entry(row["dn"], attributes)


def _to_json(value: str) -> str | dict[str, str]:
    # JSONB takes neither NUL nor the surrogates that stand for bytes.
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        return {"base64": base64.b64encode(value.encode("utf-8", "surrogateescape")).decode("ascii")}
    return value


def _from_json(value: str | dict[str, str]) -> str:
    if isinstance(value, str):
        return value
    return base64.b64decode(value["base64"]).decode("utf-8", "surrogateescape")
