"""The DICOM server of one process: it takes connections and gives each a thread of its own."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from selectors import EVENT_READ, DefaultSelector

import structlog

from archive.dicom import admission, listening
from archive.dicom.acceptor import AcceptorLimits, Proposal, Rejection, Services, StoreRequest, converse
from archive.dicom.places import MOST_SILENT, Places
from archive.dicom.status import Status
from config.device import Device, NetworkConnection

_log = structlog.get_logger()

#: How long a process that has more connections than another leaves a new one to it.
_COURTESY_S = 0.005
#: Pause when the system has no descriptor or memory for a connection.
_SHORTAGE_S = 0.1
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: How often a process looks whether one of its associations shall leave for another one.
_LEAVE_LOOK_S = 0.5
#: How often whoever waits for room looks whether there is some.
_ROOM_LOOK_S = 0.1
#: How long one that finds no place waits until another has left.
_ROOM_S = 2.0
#: Who has stored something within this time leaves for nobody.
_PRODUCTIVE_S = 60.0
#: So many bytes of an object count as something stored.
_SOMETHING = 1 << 20
#: What associations may take to end after they were told to: the object in flight.
_END_S = 3.5


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens, not blocking, and may be shared with other processes."""

    socket: socket.socket
    #: Names of the device's connections that it stands for.
    connections: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Visit:
    """One connection and what is known of it."""

    connection: socket.socket
    #: Of the remote side: host and port first.
    address: tuple[str, int]
    listener: Listener
    place: int
    began: float = field(default_factory=time.monotonic)
    #: None until it has asked for an association.
    proposal: Proposal | None = None
    is_admitted: bool = False
    #: Why we closed it before it had an association.
    closed_because: str | None = None


class Server:
    """Serves the device on its listening sockets until told to stop."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        places: Places,
        device: Callable[[], Device],
        services: Callable[[Device, Proposal], Services],
    ) -> None:
        """Make it.

        Args:
            listeners: where connections come from.
            places: shared with the other processes of the device.
            device: gives it as it is configured now; asked for each association.
            services: makes what an admitted association can use.
        """
        self._listeners = listeners
        self._places = places
        self._device = device
        self._services = services
        self._stopping = threading.Event()
        #: Ends the wait for connections; None: nobody waits.
        self._wake: socket.socket | None = None
        self._changed = threading.Condition()
        #: In the order in which they came.
        self._visits: list[_Visit] = []
        self._looked_at = 0.0

    def stop(self) -> None:
        """Ask for the end: nobody new is taken, and each association ends behind its object in flight."""
        self._stopping.set()
        # A signal alone does not end a wait: Python goes on with it.
        wake = self._wake
        if wake is not None:
            with contextlib.suppress(OSError):
                wake.send(b"!")

    def serve(self) -> bool:
        """Take connections until `stop`; return whether all associations ended in time then."""
        self._places.join()
        woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        with woken, self._wake, DefaultSelector() as selector:
            for listener in self._listeners:
                selector.register(listener.socket, EVENT_READ, listener)
            selector.register(woken, EVENT_READ)
            while not self._stopping.is_set():
                # Nobody is here who could be told to leave: then a connection or the end is waited for.
                ready = selector.select(_LEAVE_LOOK_S if self._visits else None)
                waiting = [key.data for key, _ in ready if key.data is not None]
                if waiting and self._places.is_fuller():
                    time.sleep(_COURTESY_S)
                for listener in waiting:
                    self._accept(listener)
                self._let_leave()
        return self._end()

    def _accept(self, listener: Listener) -> None:
        """Take one connection and start its thread; nothing here waits for the remote side."""
        try:
            connection, address = listener.socket.accept()
        except OSError as error:
            if error.errno in _SHORTAGES:
                _log.warning("no connection can be taken", error=error.strerror)
                self._close_silent("closed by us: no room", keep=MOST_SILENT // 2)
                self._stopping.wait(_SHORTAGE_S)
            return  # else another process was faster, or the remote side has gone
        connection.setblocking(True)
        place = self._places.enter(address[0])
        if place is None:
            _log.warning("connection closed, there are too many", address=address[0])
            connection.close()
            return
        visit = _Visit(connection, (address[0], address[1]), listener, place)
        with self._changed:
            self._visits.append(visit)
        self._close_silent(f"closed by us: silent while {MOST_SILENT} others were", keep=MOST_SILENT)
        try:
            threading.Thread(target=self._host, args=(visit,), name=f"association {address[0]}", daemon=True).start()
        except RuntimeError as error:  # the system allows no more threads
            _log.warning("connection closed, no thread for it", address=address[0], error=str(error))
            self._leave(visit)

    def _host(self, visit: _Visit) -> None:
        """Serve one connection to its end; in its own thread."""
        structlog.contextvars.bind_contextvars(address=visit.address[0])
        how = "broken off by an error of ours"
        try:
            limits = _limits(listening.connection_of(self._device(), visit.listener.connections))
            how = converse(
                visit.connection, visit.address, lambda asked: self._admit(visit, asked), limits, self._stopping.is_set
            )
        except Exception:  # noqa: BLE001  # the end of the thread: nobody else would log it
            _log.exception("association failed")
        finally:
            self._leave(visit)
        duration_s = round(time.monotonic() - visit.began, 3)
        if visit.is_admitted:
            _log.info("association ended", how=how, duration_s=duration_s)
        elif visit.proposal is None:
            how = visit.closed_because or how
            _log.info("connection without an association ended", how=how, duration_s=duration_s)

    def _admit(self, visit: _Visit, proposal: Proposal) -> Services | Rejection:
        """Decide on an association by the device as it is configured now, and by how many there are."""
        visit.proposal = proposal
        structlog.contextvars.bind_contextvars(calling=proposal.calling, called=proposal.called)
        device = self._device()
        refused = self._refusal(visit, device, proposal)
        if refused is not None:
            _log.warning("association rejected", reason=refused.text)
            return refused.rejection
        visit.is_admitted = True
        return _Noted(self._services(device, proposal), lambda: self._places.stored(visit.place))

    def _refusal(self, visit: _Visit, device: Device, proposal: Proposal) -> admission.Refusal | None:
        if self._stopping.is_set():
            return admission.Refusal(admission.TEMPORARY_CONGESTION, "this process is told to end")
        refused = admission.refusal(device, visit.listener.connections, proposal)
        if refused is not None:
            return refused
        limit = self._places.most(device.max_open_associations)
        of_address = admission.most_of_one_address(limit)
        until = time.monotonic() + _ROOM_S
        while (lack := self._places.associate(visit.place, limit=limit, per_address=of_address)) is not None:
            # Who keeps a place without storing anything has it only as long as nobody needs it.
            if time.monotonic() > until or not self._places.make_room(limit=limit, after_s=_PRODUCTIVE_S):
                break
            self._stopping.wait(_ROOM_LOOK_S)
        return None if lack is None else admission.Refusal(admission.LOCAL_LIMIT_EXCEEDED, lack)

    def _close_silent(self, why: str, *, keep: int) -> None:
        """Close connections that have no association, but for so many, so that they keep nobody out."""
        with self._changed:
            silent = [visit for visit in self._visits if not visit.is_admitted]
            for number in admission.to_close([visit.address[0] for visit in silent], keep):
                visit = silent[number]
                visit.closed_because = why
                with contextlib.suppress(OSError):  # it is gone already
                    visit.connection.shutdown(socket.SHUT_RDWR)

    def _let_leave(self) -> None:
        """Close the associations of this process that shall leave for others."""
        now = time.monotonic()
        if not self._visits or now - self._looked_at < _LEAVE_LOOK_S:
            return
        self._looked_at = now
        leaving = set(self._places.told_to_leave())
        with self._changed:
            for visit in [one for one in self._visits if one.place in leaving]:
                _log.warning("association closed for another, it has stored nothing for the longest time",
                             address=visit.address[0], calling=visit.proposal and visit.proposal.calling)  # fmt: skip
                with contextlib.suppress(OSError):  # it is gone already
                    visit.connection.shutdown(socket.SHUT_RDWR)

    def _leave(self, visit: _Visit) -> None:
        with self._changed:
            self._visits.remove(visit)
            visit.connection.close()
            self._places.leave(visit.place)
            self._changed.notify_all()

    def _end(self) -> bool:
        for listener in self._listeners:
            listener.socket.close()
        self._close_silent("closed by us: told to stop", keep=0)
        with self._changed:
            return self._changed.wait_for(lambda: not self._visits, timeout=_END_S)


class _Noted:
    """The services of an association; notes when they store something."""

    def __init__(self, services: Services, note: Callable[[], None]) -> None:
        self._services = services
        self._note = note
        self.echo = services.echo
        self.answered = services.answered
        self.close = services.close

    def store(self, request: StoreRequest) -> Status:
        """Store an object; a large one counts while it comes."""
        status = self._services.store(request._replace(chunks=self._noted(request.chunks)))
        if status.is_success:
            self._note()
        return status

    def _noted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        received = 0
        for chunk in chunks:
            received += len(chunk)
            if received >= _SOMETHING:
                received = 0
                self._note()
            yield chunk


def _limits(connection: NetworkConnection) -> AcceptorLimits:
    return AcceptorLimits(
        artim_s=connection.aarq_timeout.total_seconds(),
        idle_s=connection.idle_timeout.total_seconds(),
        send_s=connection.send_timeout.total_seconds(),
        max_pdu_length=connection.receive_pdu_length,
    )
