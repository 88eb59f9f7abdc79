"""The remote AE as a child of the demonstration: down at first, then started."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

from api.demo import pacs
from archive.dicom.peer import Peer
from workers.embedded import child

#: Those that the kernel does not give out by itself.
_PORTS = range(21_000, 31_000)
_STOP_S = 5.0


class Remote:
    """One remote AE; nobody listens before it is started."""

    def __init__(self, peer: Peer, folder: Path, log: Path) -> None:
        self.peer = peer
        self.folder = folder
        self._log = log
        self._child: child.Child | None = None

    def start(self) -> int:
        """Start it and do not wait; returns the id of its process."""
        # -P: no folder of somebody else is imported from.
        command = [sys.executable, "-P", "-m", pacs.__name__, str(self.peer.port), str(self.folder)]
        self._child = child.start(child.Program(command, self._log))
        return self._child.pid

    @property
    def answers(self) -> bool:
        """Tell whether somebody listens."""
        try:
            socket.create_connection((self.peer.host, self.peer.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it, if it was started."""
        if self._child is not None:
            self._child.stop(signal.SIGTERM, timeout_s=_STOP_S)


def free_port() -> int:
    """Return a TCP port of this machine on which nobody listens.

    Raises:
        OSError: there is none.
    """
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}")
