"""A DICOM peer that says, byte by byte, what a test writes down."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from archive.dicom import commands, handshake, messages, negotiation, pdu, wire
from archive.dicom.peer import Context, Limits, Peer
from archive.dicom.status import Status

CT = Context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
#: Long enough for a busy machine: what is tested ends earlier, or one step is given a short time.
PATIENT = Limits(connect_s=60, accept_s=60, response_s=60, send_s=60, release_s=60)

#: What to say, with the connection and what reads from it.
Script = Callable[[socket.socket, wire.Wire], None]


@contextmanager
def scripted(script: Script) -> Iterator[Peer]:
    """Listen until the end of the block, take one connection and play the script on it; then close it."""
    failures: list[Exception] = []

    def play() -> None:
        try:
            connection, _ = listening.accept()
            with closing(connection):
                reader = wire.Wire(connection, "requestor", send_s=60, max_pdu_length=1 << 20)
                reader.expect("PDU", 60)
                script(connection, reader)
        except Exception as error:  # noqa: BLE001  # of another thread: told at the end
            failures.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        yield Peer("PACS", "127.0.0.1", listening.getsockname()[1])
        thread.join(60)
    assert not failures, failures


def accept(connection: socket.socket, reader: wire.Wire, *, max_pdu_length: int = 16384) -> negotiation.Request:
    """Accept all contexts of the association that is asked for."""
    kind, body = reader.read_pdu()
    assert kind == pdu.A_ASSOCIATE_RQ
    request = handshake.decode_request(bytes(body), "requestor")
    answers = [negotiation.AnsweredContext(asked.id, 0, asked.transfer_syntaxes[0]) for asked in request.contexts]
    acceptance = negotiation.Acceptance(request.called, request.calling, answers, max_pdu_length)
    connection.sendall(handshake.encode_acceptance(acceptance))
    return request


def take(reader: wire.Wire) -> tuple[messages.Received, bytes]:
    """Read a request with its data set."""
    received = messages.read_command(reader)
    assert received is not None
    parts = messages.read_data_set(reader, received.context_id, 60) if received.command.has_data_set else ()
    return received, b"".join(parts)


def take_priority(reader: wire.Wire) -> int:
    """Read a request with its data set; return its priority. Source: PS3.7 E.1, (0000,0700)"""
    command = reader.read_pdv()
    assert command is not None
    b"".join(messages.read_data_set(reader, command.context_id, 60))
    _, _, value = bytes(command.data).partition(struct.pack("<HHI", 0, 0x0700, 2))
    return int.from_bytes(value[:2], "little")


def take_until_closed(connection: socket.socket) -> None:
    """Read whatever comes until the other one goes away."""
    connection.settimeout(60)
    try:
        while connection.recv(1 << 16):
            pass
    except OSError:
        return


def pdv(data: bytes, *, is_command: bool, is_last: bool = True, context_id: int = 1) -> bytes:
    """Return a PDV."""
    return struct.pack(">IBB", len(data) + 2, context_id, is_last << 1 | is_command) + data


def data_pdu(*pdvs: bytes) -> bytes:
    """Return a P-DATA-TF PDU."""
    body = b"".join(pdvs)
    return struct.pack(">BxI", pdu.P_DATA_TF, len(body)) + body


def command_pdu(command: bytes, context_id: int = 1) -> bytes:
    """Return a command in one PDU."""
    return data_pdu(pdv(command, is_command=True, context_id=context_id))


def store_pdus(data: bytes, message_id: int = 1) -> bytes:
    """Return a C-STORE request in two PDUs."""
    command = commands.store_request(message_id, CT.sop_class_uid, "1.2.3")
    return command_pdu(command) + data_pdu(pdv(data, is_command=False))


def response_pdu(message_id: int = 1, field: int = commands.C_STORE_RSP, status: Status | None = None) -> bytes:
    """Return a response, by default one of success to the first C-STORE."""
    request = commands.Command(field & ~commands.RESPONSE, message_id, CT.sop_class_uid, "1.2.3", has_data_set=True)
    return command_pdu(commands.response(request, status or Status(0)))
