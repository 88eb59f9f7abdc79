"""Connect to a peer, within a time, and look now and then whether that is still wanted."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from archive import errors
from archive.dicom.peer import Peer, patience

#: How often someone who waits is asked whether to go on.
_LOOK_S = 0.5

#: What `getaddrinfo` returns for an address: family, type, protocol, canonical name, socket address.
_Found = tuple[int, int, int, str, Any]


def connect(peer: Peer, within_s: float, waiting: Callable[[], None]) -> socket.socket:
    """Connect to the first address that answers, all of them together within the time.

    Args:
        peer: its host is a name or an address.
        within_s: for the name and the connection; 0 for any time.
        waiting: called twice a second; what it raises ends the attempt.

    Raises:
        PeerUnreachable: no address, or none of them answers.
    """
    deadline = time.monotonic() + patience(within_s)
    addresses = _addresses(peer, within_s, deadline, waiting)
    cause = "no address"
    for family, kind, protocol, _, address in addresses:
        connection = socket.socket(family, kind, protocol)
        try:
            failure = _connected(connection, address, deadline, waiting)
        except BaseException:
            connection.close()
            raise
        if not failure:
            return connection
        connection.close()
        cause = f"no connection within {within_s:g} s" if failure == errno.ETIMEDOUT else os.strerror(failure)
    raise errors.PeerUnreachable(f"{peer}: {cause}")


def _connected(connection: socket.socket, address: Any, deadline: float, waiting: Callable[[], None]) -> int:
    """Connect; return 0, or the number of the error."""
    connection.setblocking(False)
    failure = connection.connect_ex(address)
    if failure != errno.EINPROGRESS:
        return failure
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    while not poll.poll(_span_s(deadline) * 1000):
        if time.monotonic() >= deadline:
            return errno.ETIMEDOUT
        waiting()
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _addresses(peer: Peer, within_s: float, deadline: float, waiting: Callable[[], None]) -> Sequence[_Found]:
    with suppress(OSError, UnicodeError):
        return socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    asked = _Resolving(peer.host, peer.port)
    while not asked.is_done.wait(_span_s(deadline)):
        if time.monotonic() >= deadline:
            raise errors.PeerUnreachable(f"{peer}: host name not resolved within {within_s:g} s")
        waiting()
    if isinstance(asked.answer, Sequence):
        return asked.answer
    reason = asked.answer.strerror if isinstance(asked.answer, OSError) else "not a host name"
    raise errors.PeerUnreachable(f"{peer}: host name not resolved: {reason}") from asked.answer


class _Resolving:
    """Asks for a name in a thread of its own: the system's resolver knows no limit, and nobody can stop it.

    A thread that is left behind ends when the resolver gives up, after half a minute or so.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.is_done = threading.Event()
        self.answer: Sequence[_Found] | OSError | UnicodeError = []
        threading.Thread(target=self._ask, name=f"resolve {host}", daemon=True).start()

    def _ask(self) -> None:
        try:
            self.answer = list(socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            self.answer = error
        self.is_done.set()


def _span_s(deadline: float) -> float:
    return min(max(deadline - time.monotonic(), 0.0), _LOOK_S)
