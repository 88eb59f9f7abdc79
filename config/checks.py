"""What is wrong in a cluster although its values are valid: for `config check` and the overview."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from config import archive_service, schema
from config.device import Device, Exporter
from config.entries import Finding, Reading, Severity
from config.schema import Part

#: Schemes of exporter URIs that tasks can be run for.
EXPORTER_SCHEMES = frozenset({"dicom", "file", "fsgroup", "noop"})

_UDP = frozenset({"SYSLOG_UDP"})


def check(reading: Reading, schemes: Collection[str] = EXPORTER_SCHEMES) -> list[Finding]:
    """Return the findings of the reading itself, then those about what its parts say of each other.

    Args:
        reading: of all entries of the source.
        schemes: of exporter URIs that are supported.
    """
    checker = _Checker(reading, frozenset(schemes))
    for device in reading.cluster.ours.values():
        checker.name(device)
        checker.archive_service(device)
        checker.failover(device)
        checker.exporters(device)
        checker.export_rules(device)
        checker.file_systems(device)
        checker.deletion_rules(device)
    checker.ae_titles()
    checker.ports()
    return [*reading.findings, *checker.findings]


@dataclass(slots=True)
class _Checker:
    """Collects findings, each at the DN of the entry that has to be changed."""

    reading: Reading
    schemes: frozenset[str]
    findings: list[Finding] = field(default_factory=list)

    def name(self, device: Device) -> None:
        """Device names become names of Celery queues and nodes."""
        if re.fullmatch(r"[A-Za-z0-9_-]+", device.name) is None:
            self._device(device, "dicomDeviceName", device.name, "expected letters, digits, - and _ only")

    def archive_service(self, device: Device) -> None:
        """A device is found by others through its web application of class DCM4CHEE_ARC."""
        if device.installed and archive_service.url_of(device) is None:
            what = f"a web application of class {archive_service.SERVICE_CLASS} with an installed HTTP connection"
            self._device(device, None, None, f"expected {what}")

    def failover(self, device: Device) -> None:
        """Failover goes to other devices of ours, and wants both devices and a time."""
        others = sorted(set(self.reading.cluster.ours) - {device.name})
        for name in sorted(set(device.failover_devices) - set(others)):
            self._device(device, "arcFailoverDevice", name, _one_of("another device that arcfleet runs:", others))
        if device.failover_devices and device.failover_after is None:
            self._device(device, "arcFailoverAfter", None, "expected a time: without one nothing ever goes there")
        if device.failover_after is not None and not device.failover_devices:
            self._device(device, "arcFailoverDevice", None, "expected at least one: nothing has a place to go to")

    def exporters(self, device: Device) -> None:
        """Exporters refer to a queue and an AE of their device, and to what can be run."""
        for exporter in device.exporters.values():
            if exporter.queue not in device.queues:
                expected = _one_of("queue", device.queues)
                self._part(device, schema.EXPORTER, exporter.id, ("dcmQueueName", exporter.queue, expected))
            if exporter.ae_title is not None and exporter.ae_title not in device.aes:
                expected = _one_of("AE", device.aes)
                self._part(device, schema.EXPORTER, exporter.id, ("dicomAETitle", exporter.ae_title, expected))
            self._scheme(device, exporter)

    def _scheme(self, device: Device, exporter: Exporter) -> None:
        row = ("dcmURI", exporter.uri)
        titles = {title for known in self.reading.cluster.devices.values() for title in known.aes}
        if exporter.scheme not in self.schemes:
            message = f"the scheme {exporter.scheme} is not supported (only {', '.join(sorted(self.schemes))})"
            self._part(device, schema.EXPORTER, exporter.id, (*row, message), Severity.WARNING)
        if exporter.scheme == "dicom" and exporter.target not in titles:
            self._part(device, schema.EXPORTER, exporter.id, (*row, "expected the AE title of a device"))
        if exporter.scheme == "fsgroup" and exporter.target not in device.file_system_groups:
            message = _one_of("file-system group", device.file_system_groups)
            self._part(device, schema.EXPORTER, exporter.id, (*row, message))

    def export_rules(self, device: Device) -> None:
        """Export rules refer to exporters of the device that runs them."""
        for rule in device.export_rules.values():
            runs = device if rule.device_name is None else self.reading.cluster.devices.get(rule.device_name)
            if runs is None:
                message = _one_of("device", self.reading.cluster.devices)
                self._part(device, schema.EXPORT_RULE, rule.name, ("dicomDeviceName", rule.device_name, message))
                continue
            for exporter in sorted(set(rule.exporter_ids) - set(runs.exporters)):
                message = _one_of("exporter", runs.exporters)
                self._part(device, schema.EXPORT_RULE, rule.name, ("dcmExporterID", exporter, message))

    def file_systems(self, device: Device) -> None:
        """A folder belongs to one group of one device; those it is shared with are devices of ours."""
        ours = self.reading.cluster.ours
        owners = [
            (other.name, group.id, system.path)
            for other in ours.values()
            for group in other.file_system_groups.values()
            for system in group.file_systems
        ]
        for group in device.file_system_groups.values():
            for system in group.file_systems:
                others = [f"{name}/{id_}" for name, id_, path in owners if path.rstrip("/") == system.path.rstrip("/")]
                if len(others) > 1:
                    message = f"expected one owner, it is in {', '.join(others)}; share it with sharedWith"
                    self._part(device, schema.FILE_SYSTEM_GROUP, group.id, ("arcFileSystem", system.path, message))
                for name in sorted(set(system.shared_with) - set(ours)):
                    message = f"sharedWith: {_one_of('device', ours)}"
                    self._part(device, schema.FILE_SYSTEM_GROUP, group.id, ("arcFileSystem", name, message))

    def deletion_rules(self, device: Device) -> None:
        """A group that shall be deleted from needs groups that hold the copies."""
        for group in device.file_system_groups.values():
            if group.delete_if_not_accessed_for is None:
                continue
            for name in group.delete_only_if_copy_in:
                owner, _, other = name.rpartition("/")
                holder = self.reading.cluster.ours.get(owner) if owner else device
                if holder is None or other not in holder.file_system_groups:
                    message = "expected a file-system group that is there: nothing can be deleted while it is not"
                    attribute = "arcDeleteStudyOnlyIfCopyOnFileSystemOfFileSystemGroup"
                    self._part(device, schema.FILE_SYSTEM_GROUP, group.id, (attribute, name, message))

    def ae_titles(self) -> None:
        """An AE title belongs to one device."""
        owners: defaultdict[str, list[Device]] = defaultdict(list)
        for device in self.reading.cluster.devices.values():
            for title in device.aes:
                owners[title].append(device)
        for title, devices in sorted(owners.items()):
            for device in devices if len(devices) > 1 else ():
                others = ", ".join(sorted(other.name for other in devices if other is not device))
                severity = Severity.ERROR if any(d.is_ours for d in devices) else Severity.WARNING
                message = f"expected an AE title of its own, also the one of {others}"
                self._part(device, schema.APPLICATION_ENTITY, title, ("dicomAETitle", title, message), severity)

    def ports(self) -> None:
        """Two installed connections on one host cannot listen on one port, if one of them is ours."""
        users: defaultdict[tuple[str, int, bool], list[tuple[Device, str]]] = defaultdict(list)
        for device in self.reading.cluster.devices.values():
            for connection in device.connections.values():
                if connection.port is not None and connection.installed is not False and device.installed:
                    udp = connection.protocol in _UDP
                    users[connection.hostname.lower(), connection.port, udp].append((device, connection.name))
        for (host, port, _), listening in users.items():
            if len(listening) < 2 or not any(device.is_ours for device, _ in listening):
                continue
            for device, name in listening:
                others = ", ".join(f"{d.name}/{n}" for d, n in listening if (d, n) != (device, name))
                message = f"expected a port of its own on {host}, also the one of {others}"
                self._part(device, schema.CONNECTION, name, ("dicomPort", str(port), message))

    def _device(self, device: Device, attribute: str | None, value: str | None, message: str) -> None:
        entry = self.reading.dns[device.name, "", device.name]
        self.findings.append(Finding(Severity.ERROR, entry, attribute, value, message, device.name))

    def _part(
        self,
        device: Device,
        part: Part,
        key: str,
        said: tuple[str, str | None, str],
        severity: Severity = Severity.ERROR,
    ) -> None:
        entry = self.reading.dns[device.name, str(part.collection), key]
        attribute, value, message = said
        self.findings.append(Finding(severity, entry, attribute, value, message, device.name))


def _one_of(what: str, known: Collection[str]) -> str:
    return f"expected {what} {' or '.join(sorted(known))}" if known else f"expected a {what}, there is none"


def errors(findings: Collection[Finding]) -> Iterator[Finding]:
    """Return those findings that make a configuration wrong."""
    return (finding for finding in findings if finding.severity is Severity.ERROR)
