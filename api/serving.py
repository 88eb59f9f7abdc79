"""What processes that answer HTTP have in common: how they listen, and an end that waits for nobody."""

from __future__ import annotations

import os
import socket
import threading

from api.addresses import Address
from archive import db
from config.errors import SettingsError

#: Seconds after which threads that still work are left behind; a chunk of a bulk call is atomic.
_LEAVE_AFTER_S = 1.5


def bound(address: Address) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        SettingsError: that is not possible.
    """
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, target = found[0]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(target)
    except OSError as error:
        made.close()
        raise SettingsError(f"port {address.port} of {address.host} cannot be used: {error.strerror}") from error
    return made


def named(address: Address, listener: socket.socket) -> str:
    """Return `host:port` of an address as it was resolved: a name may mean anything."""
    host: str = listener.getsockname()[0]
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def end() -> None:
    """End this process, whatever its threads wait for."""
    db.use(None)
    others = [one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon]
    for thread in others:
        thread.join(_LEAVE_AFTER_S / len(others))
    if any(thread.is_alive() for thread in others):
        os._exit(0)
