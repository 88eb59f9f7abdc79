"""PDUs over a blocking socket: whole ones, within a time, with few system calls and few copies."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from archive import errors
from archive.dicom import pdu
from archive.dicom.fragments import Buffer, fragments
from archive.dicom.patience import Patience
from archive.dicom.peer import patience

#: Bytes and buffers that one system call takes at most; IOV_MAX of Linux is 1024 buffers.
_BATCH_BYTES = 1 << 19
_BATCH_BUFFERS = 512

#: How often someone who waits is asked whether to go on.
_LOOK_S = 0.5
#: How long an association that ends waits for its last PDU to be read.
_FAREWELL_S = 1.0


class Pdv(NamedTuple):
    """A fragment of a message; its data is overwritten by the next read. Source: PS3.8 9.3.5.1, Annex E.2"""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


def wait_on() -> None:
    """Let a wait go on to its end."""


class Wire:
    """One end of an association's connection; of one thread."""

    def __init__(self, connection: socket.socket, peer: object, *, send_s: float, max_pdu_length: int) -> None:
        """Take over a connected socket.

        Args:
            connection: closed by `close` and `abort`.
            peer: begins the text of each error.
            send_s: how long the peer may take no byte.
            max_pdu_length: longest P-DATA-TF PDU taken, without its header of 6 bytes, as announced.
        """
        #: How the other end is called in errors.
        self.peer = peer
        #: Called twice a second while bytes are waited for, come or go; what it raises ends that.
        self.waiting: Callable[[], None] = wait_on
        self._socket = connection
        self._send_s = patience(send_s)
        self._longest = max_pdu_length
        self._fragment_length = pdu.LONGEST_DATA
        self._buffer = memoryview(bytearray(2 * max_pdu_length + 12))
        self._start = self._end = 0
        self._pdvs = self._buffer[:0]
        self._is_inside_pdu = False
        self._patience = Patience("PDU", 0)
        #: What the socket was told last, in seconds; telling it costs a system call.
        self._timeout_s: float | None = None
        self._next_look = time.monotonic() + _LOOK_S
        self._is_tcp = connection.family in (socket.AF_INET, socket.AF_INET6)
        if self._is_tcp:
            with suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def limit_fragments(self, peer_max_pdu_length: int, own_max_pdu_length: int = 0) -> None:
        """Send no longer P-DATA-TF PDUs than these; 0 is no limit. Source: PS3.8 Annex D.1

        Raises:
            PeerMisbehaved: the peer takes PDUs that hold nothing.
        """
        if 0 < peer_max_pdu_length < pdu.SHORTEST_DATA:
            raise self.misbehaved(f"takes PDUs of at most {peer_max_pdu_length} bytes, which hold no message")
        limits = [limit for limit in (peer_max_pdu_length, own_max_pdu_length, pdu.LONGEST_DATA) if limit]
        self._fragment_length = (max(min(limits), pdu.SHORTEST_DATA) - pdu.PDV_HEADER.size) & ~1

    # --- reading

    def expect(self, what: str, within_s: float) -> None:
        """Give the following reads a time, counted from now, 0 for any, and a name for what they wait for."""
        self._patience = Patience(what, within_s)

    def expect_steadily(self, what: str, within_s: float) -> None:
        """Give the following reads any time, as long as each span of this length brings what is worth waiting for."""
        self._patience = Patience.of_steady(what, within_s)

    def read_pdu(self) -> tuple[int, memoryview]:
        """Return the type and the body of the next PDU; the body is overwritten by the next read.

        Raises:
            PeerAborted: A-ABORT came, or the connection is gone.
            PeerTimedOut: no whole PDU in the time that `expect` gave.
            PeerMisbehaved: no PDU, or one that is longer than what was announced.

        Source: PS3.8 9.3
        """
        self._fill(pdu.HEADER.size)
        kind, length = pdu.HEADER.unpack_from(self._buffer, self._start)
        if not pdu.A_ASSOCIATE_RQ <= kind <= pdu.A_ABORT:
            raise self.misbehaved(f"sent what is no PDU: {bytes(self._buffer[self._start : self._end][:16])!r}")
        limit = self._longest if kind == pdu.P_DATA_TF else pdu.LONGEST_OTHER
        if length > limit:
            raise self.misbehaved(f"sent a PDU of type {kind} with {length} bytes; at most {limit} are taken")
        self._fill(pdu.HEADER.size + length)
        body = self._buffer[self._start + pdu.HEADER.size : self._start + pdu.HEADER.size + length]
        self._start += pdu.HEADER.size + length
        if kind == pdu.A_ABORT:
            raise errors.PeerAborted(f"{self.peer}: aborted the association ({pdu.abort_text(body)})")
        return kind, body

    def read_pdv(self) -> Pdv | None:
        """Return the next fragment of a message, or None when the peer asks for the release of the association.

        Raises:
            PeerAborted, PeerTimedOut, PeerMisbehaved: as `read_pdu`.

        Source: PS3.8 9.3.5
        """
        if not self._pdvs:
            kind, body = self.read_pdu()
            if kind == pdu.A_RELEASE_RQ:
                return None
            if kind != pdu.P_DATA_TF:
                raise self.misbehaved(f"sent a PDU of type {kind} instead of a {self._patience.what}")
            self._pdvs = body
        pdvs = self._pdvs
        length = int.from_bytes(pdvs[:4], "big")
        if len(pdvs) < pdu.PDV_HEADER.size or length < 2 or length + 4 > len(pdvs):
            raise self.misbehaved(f"sent a PDV of {length} bytes with {max(len(pdvs) - 4, 0)} left in its PDU")
        self._pdvs = pdvs[4 + length :]
        return Pdv(pdvs[4], bool(pdvs[5] & 1), bool(pdvs[5] & 2), pdvs[6 : 4 + length])

    def _fill(self, length: int) -> None:
        """See that so many bytes are in one piece in the buffer."""
        if self._start + length > len(self._buffer):
            self._move(length)
        while self._end - self._start < length:
            if self._patience.left_s <= 0:
                held = self._end - self._start
                raise errors.PeerTimedOut(f"{self.peer}: {self._patience.text(held, length)}")
            began, before = time.monotonic(), self._end - self._start
            with suppress(TimeoutError):
                self._receive(min(max(self._patience.left_s, 0.001), _LOOK_S))
            self._patience.waited(time.monotonic() - began, self._end - self._start - before)
            self._look()

    def _look(self) -> None:
        """Ask whether to go on, unless that was asked just now."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_S
            self.waiting()

    def _move(self, length: int) -> None:
        """Begin at the start of the buffer again, of a longer one for a long PDU of the negotiation."""
        held = self._end - self._start
        source = self._buffer[self._start : self._end]
        if length > len(self._buffer):
            self._buffer = memoryview(bytearray(length))
        self._buffer[:held] = source
        self._start, self._end = 0, held

    def _receive(self, within_s: float) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        self._limit(within_s)
        try:
            if self._is_tcp and hasattr(socket, "TCP_QUICKACK"):
                # The kernel forgets it again and again; a sender with Nagle's algorithm waits 40 ms for each ACK.
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            received = self._socket.recv_into(self._buffer[self._end :])
        except TimeoutError:
            raise
        except OSError as error:
            raise errors.PeerAborted(f"{self.peer}: connection lost: {_cause(error)}") from error
        if not received:
            raise errors.PeerAborted(f"{self.peer}: connection closed by the peer")
        self._end += received

    # --- writing

    def send(self, *pdus: Buffer) -> None:
        """Send whole PDUs.

        Raises:
            PeerAborted: the connection is gone, or A-ABORT came.
            PeerTimedOut: the peer took no byte for the time to send.
        """
        self._is_inside_pdu = True
        rest: Sequence[Buffer] = pdus
        try:
            self._limit(min(self._send_s, _LOOK_S))
            while rest:
                rest = _unsent(rest, self._send_some(rest))
                if rest:
                    self._look()
        except TimeoutError as error:
            raise errors.PeerTimedOut(f"{self.peer}: took nothing of what was sent for {self._send_s:g} s") from error
        except OSError as error:
            raise self._gone(error) from error
        self._is_inside_pdu = False

    def _send_some(self, pdus: Sequence[Buffer]) -> int:
        """Return how many bytes the peer took; it has the time to send for the first one."""
        deadline = time.monotonic() + self._send_s
        while True:
            try:
                return self._socket.sendmsg(pdus)
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
                self._look()

    def send_message(self, context_id: int, command: bytes, data: Iterable[Buffer] | None = None) -> None:
        """Send a command and its data set, which is taken as it comes.

        Raises:
            PeerAborted, PeerTimedOut: as `send`.

        Source: PS3.8 9.3.5, Annex E
        """
        batch: list[Buffer] = []
        held_bytes = 0
        for header, fragment in self._pdus(context_id, command, data):
            batch += (header, fragment)
            held_bytes += len(fragment)
            if held_bytes >= _BATCH_BYTES or len(batch) >= _BATCH_BUFFERS:
                self.send(*batch)
                batch, held_bytes = [], 0
                # Between two PDUs: whoever ends here can say so.
                self._look()
        if batch:
            self.send(*batch)

    def _pdus(self, context_id: int, command: bytes, data: Iterable[Buffer] | None) -> Iterator[tuple[bytes, Buffer]]:
        """Yield a PDU with one PDV for each fragment, its headers apart from what they are for."""
        for is_command, chunks in ((True, (command,)), (False, data)):
            for fragment, is_last in fragments(chunks, self._fragment_length) if chunks is not None else ():
                header = pdu.data_header(context_id, len(fragment), is_command=is_command, is_last=is_last)
                yield header, fragment

    def _gone(self, error: OSError) -> errors.PeerError:
        """Return why nothing can be sent: an A-ABORT that came before says more than a broken pipe."""
        self.expect("A-ABORT", _FAREWELL_S)
        try:
            while True:
                self.read_pdu()
        except errors.PeerAborted as abort:
            return abort
        except errors.PeerError:
            return errors.PeerAborted(f"{self.peer}: connection lost: {_cause(error)}")

    # --- ending

    def abort(self, source: int = 0, reason: int = 0) -> None:
        """Send A-ABORT, unless half a PDU is on its way, and close. Never waits for long. Source: PS3.8 9.3.8"""
        if self._is_inside_pdu:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()
            return
        with suppress(OSError):
            self._limit(_FAREWELL_S)
            self._socket.sendall(pdu.abort(source, reason))
        self.close()

    def close(self) -> None:
        """Close; what was sent last is given a moment to be read, else unread bytes of the peer would destroy it."""
        end = time.monotonic() + _FAREWELL_S
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while (remaining := end - time.monotonic()) > 0:
                self._limit(remaining)
                if not self._socket.recv_into(self._buffer):
                    break
        self._socket.close()

    def _limit(self, within_s: float) -> None:
        """Limit what is asked of the socket next."""
        if within_s != self._timeout_s:
            self._socket.settimeout(within_s)
            self._timeout_s = within_s

    def misbehaved(self, what: str) -> errors.PeerMisbehaved:
        """Return the error that says what the peer did, for the caller to raise."""
        return errors.PeerMisbehaved(f"{self.peer}: {what}")


def _unsent(buffers: Sequence[Buffer], sent: int) -> Sequence[Buffer]:
    """Return what is left of buffers when so many bytes are sent."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return ()


def _cause(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
