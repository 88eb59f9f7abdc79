"""A DICOM peer that does what it is told, be it wrong: nothing of ours and no library is in it but the bytes.

It answers each association and each object as its script says, and keeps what arrived whole.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from archive.dicom.peer import Peer
from tests.lab import bare
from tests.lab.acts import (
    Abort,
    AbortDuring,
    Act,
    Answer,
    Close,
    Garbage,
    Hang,
    Reject,
    Release,
    Reset,
    Slowly,
    StopReading,
)  # fmt: skip

_RQ, _AC, _RJ, _DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(1, 8)
#: Results of a presentation context. Source: PS3.8 9.3.3.2
ACCEPTED, NO_CLASS, NO_SYNTAX = 0, 3, 4
#: Not a PDU, and longer than the header of one.
GARBAGE = b"HTTP/1.1 400 Bad Request\r\n\r\n"


def accept_all(_sop_class_uid: str, _transfer_syntax_uid: str) -> int:
    """Accept each presentation context."""
    return ACCEPTED


def succeed(_number: int) -> Act:
    """Accept each association, and each object with success."""
    return Answer()


@dataclass(slots=True)
class Received:
    """An object that arrived whole."""

    association: int
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    data_set: bytes
    #: None: it was not answered.
    status: int | None = None


class _Over(Exception):
    """This association is over."""


class Misbehaving:
    """The peer; listens as long as the block lasts. Objects and associations are counted from 1 over its whole life."""

    def __init__(
        self,
        *,
        objects: Callable[[int], Act] = succeed,
        associations: Callable[[int], Act] = succeed,
        by_uid: Mapping[str, Act] | None = None,
        contexts: Callable[[str, str], int] = accept_all,
        ae_title: str = "PACS",
        port: int = 0,
    ) -> None:
        """Write the script.

        Args:
            objects: what to do with the object of this number.
            associations: what to do with the association of this number; `Answer` accepts it.
            by_uid: what to do with the object of this SOP Instance UID, whatever its number.
            contexts: result for each SOP class and transfer syntax.
            ae_title: its name in `peer`; it answers to any.
            port: 0: any.
        """
        self._objects = objects
        self._associations = associations
        self._by_uid = by_uid or {}
        self._contexts = contexts
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", port), backlog=64)
        self._began = 0
        self.peer = Peer(ae_title, "127.0.0.1", self._listening.getsockname()[1])
        self.received: list[Received] = []
        self.associations = 0
        #: How associations ended: "released", "aborted", "closed".
        self.endings: list[str] = []
        #: Calling and called AE titles of each association.
        self.titles: list[tuple[str, str]] = []
        #: Presentation contexts that each association asked for.
        self.asked: list[list[tuple[str, str]]] = []

    def confirmed(self) -> list[str]:
        """Return the objects that it said it has, each time that it said so."""
        return [one.sop_uid for one in self.received if one.status is not None and _is_taken(one.status)]

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, name="misbehaving", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(connection)
                self.associations += 1
                number = self.associations
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        ending = "closed"
        try:
            _Association(self, connection, number).serve()
        except _Over as over:
            ending = str(over)
        except OSError:
            ending = "lost"
        finally:
            with self._lock:
                self._open.discard(connection)
                self.endings.append(ending)
            connection.close()


class _Association:
    """One connection."""

    def __init__(self, script: Misbehaving, connection: socket.socket, number: int) -> None:
        self._script = script
        self._connection = connection
        self._number = number
        self._contexts: dict[int, tuple[str, str]] = {}

    def serve(self) -> None:
        kind, body = self._pdu()
        assert kind == _RQ, kind
        asked = self._read_request(body)
        act = self._script._associations(self._number)
        if not isinstance(act, Answer):
            self._do(act)
        self._connection.sendall(bare.acceptance(body, asked, self._script._contexts))
        while True:
            self._message()

    def _read_request(self, body: bytes) -> list[tuple[int, str, str]]:
        asked = list(bare.asked_contexts(body))
        self._contexts = {number: (sop_class, syntax) for number, sop_class, syntax in asked}
        with self._script._lock:
            called, calling = (body[at : at + 16].decode().strip() for at in (4, 20))
            self._script.titles.append((calling, called))
            self._script.asked.append([(sop_class, syntax) for _, sop_class, syntax in asked])
        return asked

    def _message(self) -> None:
        """Take one request whole, and do what the script says."""
        context, command = self._whole(is_command=True)
        elements = dict(bare.elements(command))
        field_, message_id = (bare.number(elements[tag]) for tag in (0x0100, 0x0110))
        if field_ == 0x0030:
            return self._respond(context, 0x8030, message_id, elements, Answer())
        with self._script._lock:
            self._script._began += 1
            number = self._script._began
        sop_uid = elements[0x1000].rstrip(b"\0 ").decode()
        act = self._script._by_uid.get(sop_uid) or self._script._objects(number)
        if isinstance(act, AbortDuring | StopReading):
            self._pdu()
            self._do(Abort() if isinstance(act, AbortDuring) else Hang())
        _, data_set = self._whole(is_command=False)
        sop_class, syntax = self._contexts[context]
        received = Received(self._number, sop_uid, sop_class, syntax, data_set)
        with self._script._lock:
            self._script.received.append(received)
        if isinstance(act, Slowly):
            act.until.wait()
            act = Answer()
        if not isinstance(act, Answer):
            self._do(act)
        received.status = act.status
        return self._respond(context, 0x8001, message_id, elements, act)

    def _respond(self, context: int, field_: int, message_id: int, request: dict[int, bytes], answer: Answer) -> None:
        elements = {
            0x0002: request[0x0002],
            0x0100: struct.pack("<H", field_),
            0x0120: struct.pack("<H", (message_id + answer.id_offset) & 0xFFFF),
            0x0800: struct.pack("<H", 0x0101),
            0x0900: struct.pack("<H", answer.status),
        }
        if answer.comment:
            elements[0x0902] = answer.comment.encode().ljust(-(-len(answer.comment) // 2) * 2)
        if 0x1000 in request:
            elements[0x1000] = request[0x1000]
        content = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in sorted(elements.items()))
        command = struct.pack("<HHII", 0, 0, 4, len(content)) + content
        self._connection.sendall(
            struct.pack(">BxIIBB", _DATA, len(command) + 6, len(command) + 2, context, 3) + command
        )

    def _whole(self, *, is_command: bool) -> tuple[int, bytes]:
        """Return context and bytes of a command or a data set."""
        found, context = bytearray(), 0
        while True:
            kind, body = self._pdu()
            if kind == _RELEASE_RQ:
                self._connection.sendall(struct.pack(">BxI4x", _RELEASE_RP, 4))
                raise _Over("released")
            assert kind == _DATA, kind
            at = 0
            while at < len(body):
                length, context, control = struct.unpack_from(">IBB", body, at)
                assert bool(control & 1) is is_command
                found += body[at + 6 : at + 4 + length]
                at += 4 + length
                if control & 2:
                    assert at == len(body), "a message that begins in the PDU of another"
                    return context, bytes(found)

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._read(6))
        body = self._read(length)
        if kind == _ABORT:
            raise _Over("aborted")
        return kind, body

    def _read(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length:
            chunk = self._connection.recv(length - len(found))
            if not chunk:
                raise _Over("closed")
            found += chunk
        return bytes(found)

    def _do(self, act: Act) -> None:
        """Do what ends an association.

        Raises:
            _Over: always.
        """
        match act:
            case Reject(result, source, reason):
                self._connection.sendall(struct.pack(">BxIxBBB", _RJ, 4, result, source, reason))
            case Abort():
                self._connection.sendall(struct.pack(">BxIxxBB", _ABORT, 4, 0, 0))
            case Release():
                self._connection.sendall(struct.pack(">BxI4x", _RELEASE_RQ, 4))
            case Garbage():
                self._connection.sendall(GARBAGE)
            case Reset():
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case Hang():
                self._script._ended.wait()
            case _:
                assert isinstance(act, Close), act
        raise _Over(type(act).__name__.lower())


def _is_taken(status: int) -> bool:
    return status == 0 or status & 0xF000 == 0xB000
