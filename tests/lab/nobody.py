"""Addresses behind which there is no peer."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress

from archive.dicom.peer import Peer


class Nobody:
    """A port on which nobody listens, and nobody else begins to while the block lasts."""

    def __enter__(self) -> Peer:
        self._taken = socket.socket()
        self._taken.bind(("127.0.0.1", 0))
        return Peer("PACS", "127.0.0.1", self._taken.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._taken.close()


class Deaf:
    """An address that answers no attempt to connect: the queue of who listens there is full."""

    def __enter__(self) -> Peer:
        self._held = ExitStack()
        listening = self._held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = self._held.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listening.getsockname())
        return Peer("PACS", "127.0.0.1", listening.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._held.close()
