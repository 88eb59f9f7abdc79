"""PDUs over a pair of sockets: what is written is read, and nothing that comes is worse than a PeerError."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive import errors
from archive.dicom import commands, messages, pdu, wire

PEER = "PACS at 127.0.0.1:11112"
COMMAND = commands.store_request(1, "1.2.840.10008.5.1.4.1.1.2", "1.2.3")
MAX_LENGTH = 4096


def _wire(connection: socket.socket) -> wire.Wire:
    found = wire.Wire(connection, PEER, send_s=5, max_pdu_length=MAX_LENGTH)
    found.expect("PDU", 5)
    return found


@contextmanager
def _pair() -> Iterator[tuple[socket.socket, wire.Wire]]:
    """Yield what a peer writes to, and what reads it."""
    theirs, ours = socket.socketpair()
    with closing(theirs), closing(ours):
        yield theirs, _wire(ours)


def _pdv(data: bytes, control: int, context_id: int = 1) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context_id, control) + data


def _data_pdu(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BxI", pdu.P_DATA_TF, len(body)) + body


def _message(reader: wire.Wire) -> tuple[messages.Received | None, bytes]:
    received = messages.read_command(reader)
    return received, b"".join(messages.read_data_set(reader, 1, 5))


@settings(deadline=None, max_examples=50)
@given(data=st.binary(max_size=3000), limit=st.integers(16, 400), chunk=st.integers(1, 1000))
def test_message_is_read_as_it_was_sent(data: bytes, limit: int, chunk: int) -> None:
    with _pair() as (theirs, reader):
        writer = _wire(theirs)
        writer.limit_fragments(limit)

        writer.send_message(1, COMMAND, [data[at : at + chunk] for at in range(0, len(data), chunk)])
        received, found = _message(reader)

    assert received is not None
    assert received.command.sop_uid == "1.2.3"
    assert found == data + b"\0" * (len(data) % 2)


@pytest.mark.parametrize("limit", [16, 17, 100, 16384])
def test_no_pdu_is_longer_than_the_peer_takes(limit: int) -> None:
    with _pair() as (theirs, reader):
        reader.limit_fragments(limit, 131072)

        reader.send_message(1, COMMAND, [b"x" * 1001])
        reader.send(pdu.RELEASE_RQ)
        lengths = []
        writer = _wire(theirs)
        writer._longest = 16384
        while (found := writer.read_pdu())[0] == pdu.P_DATA_TF:
            lengths.append(len(found[1]))

    assert max(lengths) <= limit
    assert sum(lengths) - 6 * len(lengths) == len(COMMAND) + 1002


def test_longest_pdu_of_ours_holds_for_a_peer_without_limit() -> None:
    with _pair() as (theirs, reader):
        reader.limit_fragments(0, 1000)

        reader.send_message(1, COMMAND, [b"x" * 2000])
        _, body = _wire(theirs).read_pdu()
        _, longest = _wire(theirs).read_pdu() if len(body) > 1000 else (0, body)

    assert len(longest) <= 1000


@pytest.mark.parametrize("limit", [1, 7, 15])
def test_peer_that_takes_nothing_misbehaves(limit: int) -> None:
    with _pair() as (_, reader), pytest.raises(errors.PeerMisbehaved, match=f"{PEER}: takes PDUs of at most {limit}"):
        reader.limit_fragments(limit)


def test_several_fragments_in_one_pdu_and_empty_ones_are_read() -> None:
    with _pair() as (theirs, reader):
        theirs.sendall(
            _data_pdu(_pdv(b"", 1), _pdv(COMMAND[:10], 1), _pdv(COMMAND[10:], 1), _pdv(b"", 3), _pdv(b"", 0))
            + _data_pdu(_pdv(b"ab", 0), _pdv(b"", 0), _pdv(b"cd", 2))
        )

        received, found = _message(reader)

    assert received is not None
    assert received.command.message_id == 1
    assert found == b"abcd"


def test_pdus_that_come_byte_by_byte_are_read() -> None:
    with _pair() as (theirs, reader):
        for byte in _data_pdu(_pdv(COMMAND, 3), _pdv(b"abcd", 2)):
            theirs.sendall(bytes([byte]))

        assert _message(reader)[1] == b"abcd"


def test_many_messages_in_one_piece_are_read() -> None:
    message = _data_pdu(_pdv(COMMAND, 3)) + _data_pdu(_pdv(b"x" * 1500, 0)) + _data_pdu(_pdv(b"y" * 1501, 2))
    with _pair() as (theirs, reader):
        theirs.sendall(message * 20)

        assert [_message(reader)[1] for _ in range(20)] == [b"x" * 1500 + b"y" * 1501] * 20


def test_release_is_told_from_messages() -> None:
    with _pair() as (theirs, reader):
        theirs.sendall(pdu.RELEASE_RQ)

        assert messages.read_command(reader) is None


def test_abort_is_said_with_its_source_and_reason() -> None:
    with _pair() as (theirs, reader):
        theirs.sendall(pdu.abort(2, 1))

        with pytest.raises(
            errors.PeerAborted, match=rf"^{PEER}: aborted the association \(its upper layer: unrecognized PDU\)$"
        ):
            reader.read_pdu()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "sent what is no PDU: b'GET / HTTP/1.1"),
        (struct.pack(">BxI", 4, MAX_LENGTH + 1), "sent a PDU of type 4 with 4097 bytes; at most 4096 are taken"),
        (struct.pack(">BxI", 1, 0xFFFFFFFF), "sent a PDU of type 1 with 4294967295 bytes"),
        (_data_pdu(), "sent a PDV of 0 bytes with 0 left in its PDU"),
        (_data_pdu(b"\0\0\0\1\1\3"), "sent a PDV of 1 bytes"),
        (_data_pdu(b"\0\0\0\7\1\3"), "sent a PDV of 7 bytes with 2 left in its PDU"),
        (_data_pdu(b"\0\0"), "sent a PDV of 0 bytes"),
        (pdu.RELEASE_RP, "sent a PDU of type 6 instead of a PDU"),
        (_data_pdu(_pdv(b"ab", 2)), "sent a data set in context 1 instead of the command in context 1"),
        (_data_pdu(_pdv(COMMAND[:10], 1), _pdv(COMMAND[10:], 3, 5)), "sent a command in context 5 instead of the"),
        (_data_pdu(_pdv(COMMAND[:10], 1)) + pdu.RELEASE_RQ, "asked for the release of the association within a"),
        (_data_pdu(_pdv(b"x" * 4000, 1)) * 17, "sent a command of more than 65536 bytes"),
        (_data_pdu(_pdv(b"garbage!", 3)), r"sent what is no DIMSE command: element \(6167,6272\)"),
    ],
)
def test_what_is_no_message_is_said(sent: bytes, why: str) -> None:
    with _pair() as (theirs, reader):
        theirs.sendall(sent)

        with pytest.raises(errors.PeerMisbehaved, match=f"^{PEER}: {why}"):
            messages.read_command(reader)


def test_half_a_pdu_is_waited_for_no_longer_than_was_said() -> None:
    with _pair() as (theirs, reader):
        theirs.sendall(_data_pdu(_pdv(COMMAND, 3))[:50])
        reader.expect("response to request 1", 0.01)

        with pytest.raises(
            errors.PeerTimedOut, match=f"^{PEER}: no response to request 1 within 0.01 s, only 50 of the at least"
        ):
            reader.read_pdv()


def test_silence_is_waited_for_no_longer_than_was_said() -> None:
    with _pair() as (_, reader):
        reader.expect("answer", 0.01)

        with pytest.raises(errors.PeerTimedOut, match=f"^{PEER}: no answer within 0.01 s$"):
            reader.read_pdu()


def test_peer_that_takes_no_byte_is_waited_for_no_longer_than_was_said() -> None:
    theirs, ours = socket.socketpair()
    with closing(theirs), closing(ours):
        writer = wire.Wire(ours, PEER, send_s=0.01, max_pdu_length=MAX_LENGTH)

        with pytest.raises(errors.PeerTimedOut, match=f"^{PEER}: took nothing of what was sent for 0.01 s$"):
            writer.send_message(1, COMMAND, [b"x" * 100_000_00])
        writer.abort()


def test_limit_of_zero_is_none() -> None:
    theirs, ours = socket.socketpair()
    with closing(theirs), closing(ours):
        writer = wire.Wire(ours, PEER, send_s=0, max_pdu_length=MAX_LENGTH)
        reader = wire.Wire(theirs, PEER, send_s=0, max_pdu_length=MAX_LENGTH)
        reader.expect("command", 0)

        writer.send_message(1, COMMAND)

        assert messages.read_command(reader) is not None


def test_who_waits_can_be_told_to_stop() -> None:
    def stop() -> None:
        raise KeyError("told to stop")

    with _pair() as (_, reader):
        reader.waiting = stop

        with pytest.raises(KeyError, match="told to stop"):
            reader.read_pdu()


def test_abort_that_came_before_the_broken_pipe_is_what_is_said() -> None:
    with _pair() as (theirs, reader):
        theirs.sendall(pdu.abort(0, 0))
        theirs.close()

        with pytest.raises(errors.PeerAborted, match=f"^{PEER}: aborted the association"):
            reader.send_message(1, COMMAND, [b"x" * 10_000])


def test_closed_connection_is_said() -> None:
    with _pair() as (theirs, reader):
        theirs.close()

        with pytest.raises(errors.PeerAborted, match=f"^{PEER}: connection closed by the peer$"):
            reader.read_pdu()


def test_abort_is_sent_and_closes() -> None:
    with _pair() as (theirs, reader):
        theirs.shutdown(socket.SHUT_WR)
        reader.abort(2, 2)

        assert theirs.recv(100) == pdu.abort(2, 2)
        assert theirs.recv(100) == b""


@settings(deadline=None, max_examples=200)
@given(sent=st.binary(max_size=200))
def test_no_garbage_is_worse_than_a_peer_error(sent: bytes) -> None:
    with _pair() as (theirs, reader):
        theirs.sendall(sent)
        theirs.close()

        with pytest.raises((errors.PeerMisbehaved, errors.PeerAborted)):
            _read_to_the_end(reader)


@settings(deadline=None, max_examples=200)
@given(changes=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=4))
def test_no_damaged_message_is_worse_than_a_peer_error(changes: list[tuple[int, int]]) -> None:
    sent = bytearray(_data_pdu(_pdv(COMMAND[:50], 1), _pdv(COMMAND[50:], 3)) + _data_pdu(_pdv(b"data", 2)))
    for at, value in changes:
        sent[at % len(sent)] = value
    with _pair() as (theirs, reader):
        theirs.sendall(sent)
        theirs.close()

        with pytest.raises((errors.PeerMisbehaved, errors.PeerAborted)):
            _read_to_the_end(reader)


def _read_to_the_end(reader: wire.Wire) -> None:
    while True:
        received = messages.read_command(reader)
        if received is not None and received.command.has_data_set:
            for _ in messages.read_data_set(reader, received.context_id, 5):
                pass


@pytest.mark.parametrize(
    ("wanted", "announced"), [(0, 1 << 20), (1, 4096), (16384, 16384), (131072, 131072), (1 << 30, 1 << 20)]
)
def test_what_is_announced_is_what_can_be_taken(wanted: int, announced: int) -> None:
    assert pdu.receivable(wanted) == announced
