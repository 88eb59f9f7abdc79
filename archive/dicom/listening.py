"""Where a device takes associations, and with which AE titles: read from its configuration."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from config.device import ApplicationEntity, Device, NetworkConnection


@dataclass(frozen=True, slots=True)
class Listening:
    """A TCP address on which a device takes associations."""

    host: str
    port: int
    #: Names of the device's connections with this address.
    connections: tuple[str, ...]
    #: AE titles that may be called there; the first one is an AE's own.
    titles: tuple[str, ...]


def of(device: Device, *, offset: int) -> list[Listening]:
    """Return where a device listens: its DICOM connections on which an AE takes associations.

    Those for TLS are left out: this version does not speak it, and plain text is not what they are for.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for connection in _candidates(device):
        if not connection.tls_cipher_suites:
            address = (connection.bind_address or connection.hostname, (connection.port or 0) + offset)
            found.setdefault(address, []).append(connection.name)
    return [Listening(host, port, tuple(names), titles(device, names)) for (host, port), names in found.items()]


def for_tls(device: Device) -> list[NetworkConnection]:
    """Return the connections on which a device would listen if it spoke TLS."""
    return [connection for connection in _candidates(device) if connection.tls_cipher_suites]


def acceptors(device: Device, connections: Collection[str]) -> list[ApplicationEntity]:
    """Return the installed AEs of a device that take associations on one of these connections."""
    if not device.installed:
        return []
    return [
        ae
        for ae in device.aes.values()
        if ae.acceptor and ae.installed is not False and not set(connections).isdisjoint(ae.connections)
    ]


def titles(device: Device, connections: Collection[str]) -> tuple[str, ...]:
    """Return the AE titles that may be called on these connections, own ones first."""
    known = acceptors(device, connections)
    others = (title for ae in known for title in ae.other_titles if title != "*")
    return tuple(dict.fromkeys([*(ae.title for ae in known), *others]))


def connection_of(device: Device, connections: Collection[str]) -> NetworkConnection:
    """Return the first of these connections that the device still has; if none, one with default limits."""
    found = (device.connections[name] for name in connections if name in device.connections)
    return next(found, NetworkConnection("", ""))


def _candidates(device: Device) -> list[NetworkConnection]:
    installed = device.installed_connections(tuple(device.connections), "DICOM")
    return [found for found in installed if found.port is not None and acceptors(device, [found.name])]
