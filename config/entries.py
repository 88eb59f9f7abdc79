"""Entries -> devices, through `config.schema`; says which entry and which attribute is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, cast

from config import dn, schema
from config.device import Cluster, Device
from config.entry import Entry
from config.errors import InvalidValue
from config.schema import Attr, Holds, Part

#: What every entry has, or what the schemas demand, and nothing follows from.
_NOT_ACTED_ON_IN_SILENCE = frozenset({"objectclass", "cn", "dcmfuzzyalgorithmclass"})


class Severity(StrEnum):
    """How bad a finding is."""

    #: Something does not work, or a part was refused.
    ERROR = "error"
    #: It works, though perhaps not as meant.
    WARNING = "warning"
    #: Kept in the source, but arcfleet does not act on it.
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said of one entry, or of one attribute of it."""

    severity: Severity
    dn: str
    attribute: str | None
    value: str | None
    message: str
    #: Name of the device that the entry belongs to, where one is known.
    device: str | None = None
    #: A value or an entry could not be taken over.
    refused: bool = False

    def __str__(self) -> str:
        what = f"{self.attribute}={self.value!r}: " if self.value is not None else ""
        what = what or (f"{self.attribute}: " if self.attribute else "")
        return f"{self.dn}: {what}{self.message}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the entries say, and what is wrong with them."""

    cluster: Cluster
    findings: tuple[Finding, ...]
    #: (device, collection of Device or "", name) -> DN of the entry that it was read from.
    dns: Mapping[tuple[str, str, str], str]


def read(entries: Iterable[Entry], ours: Collection[str] = (), cluster_name: str | None = None) -> Reading:
    """Read all devices; what is invalid is refused and named, the rest is used.

    An invalid attribute leaves its default in place; where that would mean something else (`Attr.vital`), the
    whole entry is refused.

    Args:
        entries: from any source, in any order.
        ours: names of devices that arcfleet runs although their entries are not marked with arcDevice.
        cluster_name: of this cluster, which runs the marked devices of that name (ARCFLEET_CLUSTER).
    """
    reader = _Reader(frozenset(ours), cluster_name)
    tree = reader.tree(entries)
    children: defaultdict[dn.Dn, list[Entry]] = defaultdict(list)
    for path, entry in tree.items():
        children[path[1:]].append(entry)
    devices: dict[str, Device] = {}
    for path, entry in tree.items():
        if not entry.has_class(schema.DEVICE.object_class):
            continue
        device = reader.device(entry, children[path])
        if device is not None and device.name in devices:
            reader.refuse(entry, schema.DEVICE.key, device.name, "a device name that no other entry has")
        elif device is not None:
            devices[device.name] = device
    for name in sorted(set(ours) - set(devices)):
        expected = f"names of devices: {', '.join(sorted(devices)) or 'there are none'}"
        reader.findings.append(Finding(Severity.ERROR, "environment", "ARCFLEET_DEVICES", name, f"expected {expected}"))
    cluster = Cluster(MappingProxyType(devices))
    return Reading(cluster, tuple(reader.findings), MappingProxyType(reader.dns))


def attributes_of(part: Part, value: Any, connection_dns: Mapping[str, str]) -> dict[str, list[str]]:
    """Write a device or a part of one as attributes; what equals its default is left out.

    Args:
        part: the sort of entry, for example `schema.QUEUE`.
        value: the dataclass of that sort.
        connection_dns: name of each connection of the device -> DN of its entry.
    """
    attributes = {"objectClass": list(part.object_classes)}
    for row in part.attrs:
        held = getattr(value, row.field)
        if held == part.default(row) and not row.required and row is not part.key:
            continue
        attributes[row.attribute] = _texts(row, held, connection_dns)
        if row.object_class and row.object_class not in attributes["objectClass"]:
            attributes["objectClass"].append(row.object_class)
    for mark, flag in schema.DEVICE_MARKS.items() if part is schema.DEVICE else ():
        if getattr(value, flag) and mark not in attributes["objectClass"]:
            attributes["objectClass"].append(mark)
    return {name: texts for name, texts in attributes.items() if texts}


def _texts(row: Attr, held: Any, connection_dns: Mapping[str, str]) -> list[str]:
    match row.holds:
        case Holds.ONE:
            return [] if held is None else [row.codec.write(held)]
        case Holds.MANY:
            return [row.codec.write(item) for item in held]
        case Holds.PROPERTIES:
            return [row.codec.write(item) for item in held.items()]
        case Holds.CONNECTIONS:
            return [connection_dns[name] for name in held]


class _Refused(Exception):
    """The entry at hand cannot be taken over; why is among the findings."""


class _Reader:
    """Collects findings while entries become dataclasses."""

    def __init__(self, ours: frozenset[str], cluster_name: str | None) -> None:
        self.ours = ours
        self.cluster_name = cluster_name
        self.findings: list[Finding] = []
        self.dns: dict[tuple[str, str, str], str] = {}
        #: The device whose entries are being read.
        self._device: str | None = None

    def tree(self, entries: Iterable[Entry]) -> dict[dn.Dn, Entry]:
        """Index the entries by name; an unreadable or repeated name is refused."""
        found: dict[dn.Dn, Entry] = {}
        for entry in entries:
            try:
                name = dn.parse(entry.dn)
            except ValueError:
                self._add(entry, None, None, "expected a distinguished name")
                continue
            if name in found:
                self._add(entry, None, None, "expected each name once, this one is there twice")
            else:
                found[name] = entry
        return found

    def device(self, entry: Entry, below: list[Entry]) -> Device | None:
        """Read a device and what hangs below it; None: its entry was refused."""
        self._device = (entry.values("dicomDeviceName") or [dn.first_rdn(entry.dn)[0][1]])[0]
        try:
            values = self._fields(schema.DEVICE, entry, {})
        except _Refused:
            return None
        for mark, flag in schema.DEVICE_MARKS.items():
            values[flag] = entry.has_class(mark)
        # Another cluster of ours in the same directory has devices too: they are foreign to this one.
        is_marked = values["is_ours"] and values.get("cluster_name") == self.cluster_name
        values["is_ours"] = is_marked or values["name"] in self.ours
        self._device = values["name"]
        self.dns[values["name"], "", values["name"]] = entry.dn
        connections: dict[dn.Dn, str] = {}
        for part in schema.CHILDREN:
            values[str(part.collection)] = MappingProxyType(self._children(part, below, connections))
        if values["is_ours"]:
            self._list_not_acted_on(schema.DEVICE, entry)
            self._list_unknown_classes(below)
        device = cast(Device, schema.DEVICE.type(**values))
        self._device = None
        return device

    def refuse(self, entry: Entry, row: Attr, value: str | None, expected: str) -> None:
        """Note that a value is refused."""
        self._add(entry, row.attribute, value, f"expected {expected}")

    def _add(self, entry: Entry, attribute: str | None, value: str | None, message: str) -> None:
        self.findings.append(Finding(Severity.ERROR, entry.dn, attribute, value, message, self._device, refused=True))

    def _children(self, part: Part, below: list[Entry], connections: dict[dn.Dn, str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for entry in below:
            if not part.is_for(entry):
                continue
            try:
                values = self._fields(part, entry, connections)
            except _Refused:
                continue
            key = values[part.key.field]
            if key in found:
                self.refuse(entry, part.key, key, "a name that no other entry of this device has")
                continue
            found[key] = part.type(**values)
            self.dns[str(self._device), str(part.collection), key] = entry.dn
            if part is schema.CONNECTION:
                connections[dn.parse(entry.dn)] = key
        return found

    def _fields(self, part: Part, entry: Entry, connections: Mapping[dn.Dn, str]) -> dict[str, Any]:
        values: dict[str, Any] = {part.key.field: self._key(part, entry)}
        for row in part.attrs[1:]:
            texts = entry.values(row.attribute)
            if not texts and row.required:
                self._add(entry, row.attribute, None, f"the attribute is missing, expected {row.codec.expected}")
                raise _Refused
            if texts:
                values |= self._field(row, entry, texts, connections)
        return values

    def _field(self, row: Attr, entry: Entry, texts: list[str], connections: Mapping[dn.Dn, str]) -> dict[str, Any]:
        """Return {field: value}, or nothing if no value is valid."""
        if row.holds is Holds.CONNECTIONS:
            return {row.field: tuple(self._connections(row, entry, texts, connections))}
        if row.holds is Holds.ONE and len(texts) > 1:
            self.refuse(entry, row, ", ".join(texts), "one value")
            parsed = []
        else:
            parsed = [value for text in texts for value in self._parsed(row, entry, text)]
        if not parsed and (row.required or row.vital):
            raise _Refused
        if row.holds is Holds.ONE:
            return {row.field: parsed[0]} if parsed else {}
        return {row.field: MappingProxyType(dict(parsed)) if row.holds is Holds.PROPERTIES else tuple(parsed)}

    def _parsed(self, row: Attr, entry: Entry, text: str) -> list[Any]:
        try:
            return [row.parse(entry.dn, text)]
        except InvalidValue as exc:
            self.refuse(entry, row, text, exc.expected)
            return []

    def _connections(
        self, row: Attr, entry: Entry, texts: list[str], connections: Mapping[dn.Dn, str]
    ) -> Iterable[str]:
        for text in texts:
            try:
                name = connections.get(dn.parse(text))
            except ValueError:
                name = None
            if name is None:
                self.refuse(entry, row, text, "the DN of a network connection of the same device")
            else:
                yield name

    def _key(self, part: Part, entry: Entry) -> Any:
        """Return the value that names the entry: its attribute, else what its DN says."""
        row = part.key
        named = [value for kind, value in dn.first_rdn(entry.dn) if kind.lower() == row.attribute.lower()]
        held = entry.values(row.attribute)
        if not held and not named and part is schema.CONNECTION:
            # Connections without a name are told apart by their address, in the DN too.
            return ":".join(entry.values("dicomHostname")[:1] + entry.values("dicomPort")[:1])
        if held and named:
            same = [value for value in held if dn.same_value(row.attribute, value, named[0])]
            if not same:
                self.refuse(entry, row, held[0], f"{named[0]!r} as in the DN")
                raise _Refused
            held = same
        parsed = self._parsed(row, entry, (held or named or [""])[0])
        if not parsed:
            raise _Refused
        return parsed[0]

    def _list_not_acted_on(self, part: Part, entry: Entry) -> None:
        for attribute in entry.attributes:
            if attribute.lower() not in _NOT_ACTED_ON_IN_SILENCE and part.attr(attribute) is None:
                self._info(entry, attribute, "is kept, arcfleet does not act on it")

    def _list_unknown_classes(self, below: list[Entry]) -> None:
        for entry in below:
            part = next((part for part in schema.CHILDREN if part.is_for(entry)), None)
            if part is None:
                classes = ", ".join(entry.values("objectClass")) or "no object class"
                self._info(entry, None, f"the entry ({classes}) is kept, arcfleet does not act on it")
            else:
                self._list_not_acted_on(part, entry)

    def _info(self, entry: Entry, attribute: str | None, message: str) -> None:
        self.findings.append(Finding(Severity.INFO, entry.dn, attribute, None, message, self._device))
