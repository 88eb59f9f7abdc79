"""Where this machine's REST API, Flower and DICOM services listen, and whether they can."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from archive.dicom import listening
from config import settings
from config.device import Device
from config.errors import SettingsError

#: Whose address it is, beside `REST` and the names of devices.
FLOWER = "Flower"

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # to connect, not to listen


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address that we listen on."""

    host: str
    port: int
    #: Whose it is: `REST`, `Flower` or a device's name.
    owner: str
    #: Whom to call there by DICOM; None: it speaks HTTP.
    ae_title: str | None = None

    @property
    def reached_at(self) -> str:
        """The host by which this machine reaches it."""
        return reached(self.host)

    @property
    def url(self) -> str:
        """The URL by which this machine reaches it: `http://host:port` or `dicom://AE_TITLE@host:port`."""
        begin = "http://" if self.ae_title is None else f"dicom://{quote(self.ae_title, safe='')}@"
        return begin + (f"[{self.reached_at}]" if ":" in self.reached_at else self.reached_at) + f":{self.port}"


def reached(host: str) -> str:
    """Return where this machine connects to what listens there."""
    return _EVERY_ADDRESS.get(host, host)


def of_api(own: Address, devices: Iterable[Device], *, offset: int) -> list[Address]:
    """Return where the API listens: its own address, then the devices' HTTP connections (offset added)."""
    found = {(own.host, own.port): own}
    for device in devices:
        for connection in device.installed_connections(tuple(device.connections), "HTTP"):
            if connection.port is not None:
                listening = connection.bind_address or connection.hostname
                address = Address(listening, connection.port + offset, device.name)
                found.setdefault((address.host, address.port), address)
    return list(found.values())


def of_dicom(devices: Iterable[Device], *, offset: int) -> list[Address]:
    """Return where the devices take associations (offset added)."""
    return [
        Address(place.host, place.port, device.name, place.titles[0])
        for device in devices
        for place in listening.of(device, offset=offset)
    ]


def own_address(given: settings.Settings, *, offset: int) -> Address:
    """Return where the API listens for itself; a port that is set explicitly is not moved by the offset."""
    moved = 0 if given.is_set("api_port") else offset
    return Address(given.api_host, given.api_port + moved, "REST")


def flower_address(given: settings.Settings, *, offset: int) -> Address:
    """Return where Flower listens; a port that is set explicitly is not moved by the offset."""
    moved = 0 if given.is_set("flower_port") else offset
    return Address(given.flower_host, given.flower_port + moved, FLOWER)


def refuse_busy(addresses: Iterable[Address]) -> None:
    """See that each address can be listened on now.

    Raises:
        SettingsError: one cannot; the message names it and who wants it.
    """
    for address in addresses:
        listen(address).close()


def listen(address: Address, *, backlog: int = 128) -> socket.socket:
    """Return a socket that listens on an address, with so many connections waiting at most.

    Raises:
        SettingsError: that is not possible; the message names it and who wants it.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, target = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(target)
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise SettingsError(
            f"port {address.port} of {address.host}, wanted for {_wanted(address)}, {_reason(error)}: "
            "end what uses it, configure another, or move all ports with `arcfleet up --offset N`"
        ) from error
    return listener


def _wanted(address: Address) -> str:
    if address.owner == FLOWER:
        return FLOWER
    if address.owner == "REST":
        return "the REST API"
    return f"the {'HTTP' if address.ae_title is None else 'DICOM'} connection of device {address.owner}"


def _reason(error: OSError) -> str:
    match error:
        case socket.gaierror():
            return "is no address of this machine"
        case OSError(errno=errno.EADDRINUSE):
            return "is busy"
        case OSError(errno=errno.EACCES):
            return "needs root"
        case _:
            return f"cannot be used ({os.strerror(error.errno) if error.errno else error})"
