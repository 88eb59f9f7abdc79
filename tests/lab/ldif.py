"""Changes of the shipped sample, so that a test says only what its cluster has different."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from config import changes, ldif_records, source
from config.entry import Entry
from config.ldif_source import LdifSource

#: The devices of the sample that arcfleet runs.
DEVICES = ("archive-a", "archive-b")

#: The device of the sample that it does not.
REMOTE = "pacs"

_CONNECTION = "cn=dicom"
_BELOW = "cn=Devices,cn=DICOM Configuration,dc=dcm4che,dc=org"

#: One value, several, or none (the attribute is removed).
Values = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Change:
    """Attributes that an entry of one or both devices shall have; an entry that is not there is made."""

    #: In front of the device's name: `dcmQueueName=Export`; empty: the device itself.
    rdn: str
    values: Mapping[str, Values]
    devices: tuple[str, ...] = DEVICES
    #: For an entry that has to be made.
    object_class: str | None = None


def device(*names: str, **values: Values) -> Change:
    """Change devices: `device(arcTaskLease="PT3S")`. No name means both."""
    return Change("", values, names or DEVICES)


def queue(name: str, *devices: str, **values: Values) -> Change:
    """Change a queue, or make one: `queue("Export", dcmMaxTasksParallel="1")`."""
    return Change(f"dcmQueueName={name}", values, devices or DEVICES, "dcmQueue")


def exporter(name: str, *devices: str, uri: str, queue: str = "Export", **properties: str | float) -> Change:
    """Change an exporter, or make one: `exporter("Slow", uri="noop:", duration=5)`."""
    values: dict[str, Values] = {
        "dcmURI": uri,
        "dcmQueueName": queue,
        "dcmProperty": [f"{key}={value}" for key, value in properties.items()],
    }
    return Change(f"dcmExporterID={name}", values, devices or DEVICES, "dcmExporter")


def connection(device: str, **values: Values) -> Change:
    """Change the connection by which a device speaks DICOM: `connection("archive-a", dicomPort="11200")`."""
    return Change(_CONNECTION, values, (device,))


def remote(ae_title: str, port: int) -> tuple[Change, Change]:
    """Make an AE of the device pacs, with a connection of its own on loopback."""
    own = f"cn={ae_title.lower()}"
    reference = f"{own},dicomDeviceName={REMOTE},{_BELOW}"
    return (
        Change(own, {"dicomHostname": "127.0.0.1", "dicomPort": str(port)}, (REMOTE,), "dicomNetworkConnection"),
        Change(
            f"dicomAETitle={ae_title}",
            {
                "dicomNetworkConnectionReference": reference,
                "dicomAssociationInitiator": "TRUE",
                "dicomAssociationAcceptor": "TRUE",
            },
            (REMOTE,),
            "dicomNetworkAE",
        ),
    )


def make(path: Path, wanted: Iterable[Change]) -> None:
    """Write the sample with these changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.sample())
    apply(path, wanted)


def apply(path: Path, wanted: Iterable[Change]) -> None:
    """Make these changes in a configuration that may be in use."""
    held = LdifSource(path)
    for change in wanted:
        for name in change.devices:
            dn = ",".join(part for part in (change.rdn, f"dicomDeviceName={name}", _BELOW) if part)
            if not any(entry.dn == dn for entry in held.entries()):
                _append(path, _made(dn, change))
            else:
                _modify(held, dn, change)


def _modify(held: LdifSource, dn: str, change: Change) -> None:
    for attribute, values in change.values.items():
        entry = changes.find(held.entries(), dn)
        held.modify(dn, changes.plan(entry, attribute, _several(values)))


def _made(dn: str, change: Change) -> Entry:
    assert change.object_class is not None, f"{dn} is not in the sample, expected the class of a new entry"
    attribute, _, value = change.rdn.partition("=")
    own = {"objectClass": [change.object_class], attribute: [value]}
    if any(name.startswith("arcTask") for name in change.values):
        own["objectClass"].append("arcQueue")
    return Entry(dn, own | {name: _several(values) for name, values in change.values.items() if values})


def _append(path: Path, entry: Entry) -> None:
    record = ldif_records.written([entry]).partition("\n\n")[2]
    path.write_bytes(path.read_bytes() + f"\n{record}".encode("ascii"))


def _several(values: Values) -> list[str]:
    if values is None:
        return []
    return [values] if isinstance(values, str) else list(values)
