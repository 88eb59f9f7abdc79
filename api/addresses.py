"""Where this machine's REST API listens, and whether it can."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from config import settings
from config.device import Device
from config.errors import SettingsError

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # to connect, not to listen


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address that we listen on."""

    host: str
    port: int
    #: Whose it is: `REST` or a device's name.
    owner: str

    @property
    def url(self) -> str:
        """The URL by which this machine reaches it."""
        host = reached(self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


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


def own_address(given: settings.Settings, *, offset: int) -> Address:
    """Return where the API listens for itself; a port that is set explicitly is not moved by the offset."""
    moved = 0 if given.is_set("api_port") else offset
    return Address(given.api_host, given.api_port + moved, "REST")


def refuse_busy(addresses: Iterable[Address]) -> None:
    """See that each address can be listened on now.

    Raises:
        SettingsError: one cannot; the message names it and who wants it.
    """
    for address in addresses:
        try:
            _listen_once(address)
        except OSError as error:
            raise SettingsError(
                f"port {address.port} of {address.host}, wanted for {_wanted(address)}, {_reason(error)}: "
                "end what uses it, configure another, or move all ports with `arcfleet up --offset N`"
            ) from error


def _listen_once(address: Address) -> None:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, target = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(target)
        probe.listen()


def _wanted(address: Address) -> str:
    return "the REST API" if address.owner == "REST" else f"the HTTP connection of device {address.owner}"


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
