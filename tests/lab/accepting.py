"""Our acceptor in threads of this process, with services that keep what they are given."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from archive.dicom.acceptor import AcceptorLimits, Proposal, Rejection, Services, StoreRequest, converse
from archive.dicom.peer import Peer
from archive.dicom.status import Status
from tests.lab.waiting import wait_until


@dataclass(slots=True)
class Keeping:
    """Services that keep each object that came whole, and answer it with the status that `answer` gives."""

    answer: Callable[[StoreRequest], Status] = lambda _: Status(0)
    objects: list[tuple[StoreRequest, bytes]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    closed: int = 0

    def echo(self) -> Status:
        return Status(0)

    def store(self, request: StoreRequest) -> Status:
        try:
            data = b"".join(request.chunks)
        except Exception as error:
            self.broken.append(str(error))
            raise
        self.objects.append((request, data))
        return self.answer(request)

    def answered(self) -> None:
        """Take no notice."""

    def close(self) -> None:
        self.closed += 1


class Accepting:
    """Listens as long as the block lasts; each association has a thread."""

    def __init__(
        self,
        services: Services | Rejection | None = None,
        limits: AcceptorLimits | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.services = services or Keeping()
        self._limits = limits or AcceptorLimits(artim_s=30, idle_s=30, send_s=30)
        self._stopping = stopping
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.peer = Peer("ARCHIVE_A", "127.0.0.1", self._listening.getsockname()[1])
        self.proposals: list[Proposal] = []
        #: How each association ended.
        self.endings: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(60)

    def ending(self, number: int = 1) -> str:
        """Wait for the end of the association of this number and return how it ended."""
        wait_until(lambda: len(self.endings) >= number, f"association {number} ends")
        return self.endings[number - 1]

    def connect(self) -> socket.socket:
        """Return a connection on which nothing is said yet."""
        connection = socket.create_connection((self.peer.host, self.peer.port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _listen(self) -> None:
        while True:
            try:
                connection, address = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection, address), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        self.endings.append(converse(connection, address, self._admit, self._limits, self._stopping))

    def _admit(self, proposal: Proposal) -> Services | Rejection:
        self.proposals.append(proposal)
        return self.services
