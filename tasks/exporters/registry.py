"""Which URI schemes an EXPORT task can send to: one file each in `tasks/exporters/`."""

from __future__ import annotations

from typing import Protocol

from archive.query import StoredObject
from config.device import Cluster, Device, Exporter
from tasks.errors import InvalidError
from tasks.exporters import dicom_node, folder, fsgroup, noop
from tasks.outcome import Outcome
from tasks.work import Work


class Sender(Protocol):
    """How objects get to one sort of destination."""

    #: It reads the objects' files.
    reads_files: bool

    def check(self, exporter: Exporter, device: Device) -> None:
        """Refuse an exporter of a device that can never work.

        Raises:
            InvalidError: names the exporter, the value and what was expected.
        """

    def destination(self, exporter: Exporter) -> str | None:
        """Return what caps, holds and circuit breakers go by; None: they do not concern it."""

    def send(self, exporter: Exporter, objects: list[StoredObject], work: Work) -> Outcome:
        """Send the objects, one outcome each."""


SENDERS: dict[str, Sender] = {
    "dicom": dicom_node.DicomNode(),
    "file": folder.Folder(),
    "fsgroup": fsgroup.GroupOfFileSystems(),
    "noop": noop.Noop(),
}


def sender_for(exporter: Exporter, device: Device) -> Sender:
    """Return the sender for the scheme of the URI of a device's exporter.

    Raises:
        InvalidError: this version has none, or the URI cannot work.
    """
    sender = SENDERS.get(exporter.scheme)
    if sender is None:
        known = ", ".join(f"{scheme}:" for scheme in sorted(SENDERS))
        raise InvalidError(
            f"Exporter {exporter.id} has dcmURI {exporter.uri}, a scheme that this version cannot export to; "
            f"expected one of {known}"
        )
    sender.check(exporter, device)
    return sender


def destinations(cluster: Cluster) -> dict[str, list[str]]:
    """Return the destinations of our devices' exporters, each with those exporters as `id (device)`."""
    found: dict[str, list[str]] = {}
    for device in cluster.ours.values():
        for exporter in device.exporters.values():
            sender = SENDERS.get(exporter.scheme)
            name = sender.destination(exporter) if sender is not None else None
            if name is not None:
                found.setdefault(name, []).append(f"{exporter.id} ({device.name})")
    return found
