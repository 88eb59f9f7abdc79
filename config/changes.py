"""A change of one attribute: what has to be written, and whether the result may stand."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence

from config import checks, dn, entries, schema
from config.entries import Finding
from config.entry import Entry
from config.errors import ConfigError, EntryNotFound
from config.schema import Attr, Holds, Part


def find(found: Iterable[Entry], name: str) -> Entry:
    """Return the entry of that DN.

    Raises:
        EntryNotFound: there is none, or it is no DN.
    """
    try:
        wanted = dn.parse(name)
    except ValueError as exc:
        raise EntryNotFound(f"{name!r}: expected a distinguished name") from exc
    for entry in found:
        if dn.parse(entry.dn) == wanted:
            return entry
    raise EntryNotFound(f"{name!r}: expected the DN of an entry, for example one that `config show` names")


def plan(entry: Entry, attribute: str, values: Sequence[str], *, unknown: bool = False) -> dict[str, list[str]]:
    """Return what to write so that the attribute has these values: itself, and its object class if missing.

    Args:
        entry: as it is.
        attribute: whatever its letter case.
        values: all its new values; none removes it.
        unknown: an attribute that arcfleet does not act on may be added.

    Raises:
        InvalidValue: a value is not what the attribute holds.
        ConfigError: arcfleet does not act on such an attribute in such an entry.
    """
    part = next((part for part in schema.PARTS if part.is_for(entry)), None)
    row = None if part is None else part.attr(attribute)
    if part is not None and row is None and not unknown and not entry.values(attribute):
        raise ConfigError(f"{entry.dn}: {attribute}: {_expected(part, attribute)}")
    if row is None:
        return {attribute: list(values)}
    changes = {row.attribute: [_text(row, entry, value) for value in values]}
    if values and row.object_class is not None and not entry.has_class(row.object_class):
        changes["objectClass"] = [*entry.values("objectClass"), row.object_class]
    return changes


def no_worse(
    before: Iterable[Entry], ours: Collection[str], cluster_name: str | None = None
) -> Callable[[list[Entry]], None]:
    """Return what a source asks before it writes: it raises on an error that was not there before."""
    held = {_identity(finding) for finding in _errors(before, ours, cluster_name)}

    def accept(after: list[Entry]) -> None:
        for finding in _errors(after, ours, cluster_name):
            if _identity(finding) not in held:
                raise ConfigError(str(finding))

    return accept


def _errors(found: Iterable[Entry], ours: Collection[str], cluster_name: str | None) -> list[Finding]:
    return list(checks.errors(checks.check(entries.read(found, ours, cluster_name))))


def _identity(finding: Finding) -> tuple[str, str | None, str | None, str]:
    return finding.dn, finding.attribute, finding.value, finding.message


def _text(row: Attr, entry: Entry, value: str) -> str:
    """Return the value to write: the operator's text, in the letter case that directories want."""
    if row.holds is Holds.CONNECTIONS:
        # `config show` gives names: a connection of the same device may be given by its name.
        return value if "=" in value else dn.child(schema.CONNECTION.key.attribute, value, dn.parent(entry.dn))
    canonical: str = row.codec.write(row.parse(entry.dn, value))
    return canonical if canonical.lower() == value.strip().lower() else value.strip()


def _expected(part: Part, attribute: str) -> str:
    known = [row.attribute for row in part.attrs]
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(attribute.lower(), lowered, n=1, cutoff=0)
    nearest = lowered[near[0]]
    return f"expected an attribute of {part.object_class} that arcfleet acts on, the nearest is {nearest}"
