"""The service class user, with sockets: whatever the peer does is said, in time."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from archive import errors
from archive.dicom import commands, negotiation, pdu, wire
from archive.dicom.peer import Limits, Peer
from archive.dicom.requestor import associate
from archive.dicom.status import Status
from tests.lab.accepting import Accepting
from tests.lab.nobody import Deaf, Nobody
from tests.lab.scripted import (
    CT,
    PATIENT,
    Script,
    accept,
    command_pdu,
    data_pdu,
    pdv,
    response_pdu,
    scripted,
    take,
    take_until_closed,
)

SHORT_S = 0.05


def _store(peer: Peer, data: bytes = b"data", limits: Limits = PATIENT) -> Status:
    with associate(peer, "ARCFLEET", [CT], limits) as association:
        return association.store("1.2.3", CT, [data])


# ---- no association


def test_nobody_listens_is_said() -> None:
    with Nobody() as peer, pytest.raises(errors.PeerUnreachable, match=f"^{peer}: Connection refused$"):
        _store(peer)


def test_no_answer_to_the_connection_is_said() -> None:
    with Deaf() as peer, pytest.raises(errors.PeerUnreachable, match=f"^{peer}: no connection within 0.05 s$"):
        _store(peer, limits=replace(PATIENT, connect_s=SHORT_S))


def stop() -> None:
    raise KeyError("told to stop")


def test_who_connects_is_asked_whether_to_go_on() -> None:
    with (
        Deaf() as peer,
        pytest.raises(KeyError, match="told to stop"),
        associate(peer, "A", [CT], PATIENT, waiting=stop),
    ):
        pass


def test_host_name_is_waited_for_no_longer_than_was_said(slow_names: None) -> None:
    with pytest.raises(errors.PeerUnreachable, match=r"^PACS at slow:104: host name not resolved within 0\.05 s$"):
        _store(Peer("PACS", "slow", 104), limits=replace(PATIENT, connect_s=SHORT_S))


def test_who_waits_for_a_host_name_is_asked_whether_to_go_on(slow_names: None) -> None:
    with (
        pytest.raises(KeyError, match="told to stop"),
        associate(Peer("PACS", "slow", 104), "A", [CT], PATIENT, waiting=stop),
    ):
        pass


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no name be resolved before the end of the test: stands for the server of names, which is not ours."""
    over = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *args: Any, **named: Any) -> Any:
        if host == "slow" and not named.get("flags"):
            over.wait(60)
        return real(host, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield
    over.set()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 300])
def test_unknown_host_is_said(host: str) -> None:
    with pytest.raises(errors.PeerUnreachable, match=f"^PACS at {host}:104: host name not resolved: "):
        _store(Peer("PACS", host, 104))


@pytest.mark.parametrize(
    ("rejection", "text", "is_transient"),
    [
        (negotiation.Rejection(1, 1, 7), "permanent, service user: called AE title not recognized", False),
        (negotiation.Rejection(2, 3, 2), r"transient, upper layer \(presentation\): local limit exceeded", True),
        (negotiation.Rejection(9, 9, 9), "result 9, source 9: reason 9", False),
    ],
)
def test_rejection_is_said_in_words(rejection: negotiation.Rejection, text: str, is_transient: bool) -> None:
    with (
        Accepting(rejection) as accepting,
        pytest.raises(errors.PeerRejected, match=rf"^{accepting.peer}: association rejected \({text}\)$") as raised,
    ):
        _store(accepting.peer)

    assert raised.value.is_transient is is_transient


def test_peer_that_says_nothing_is_given_up() -> None:
    with (
        scripted(lambda connection, _: take_until_closed(connection)) as peer,
        pytest.raises(errors.PeerTimedOut, match=f"^{peer}: no answer to A-ASSOCIATE-RQ within 0.05 s$"),
    ):
        _store(peer, limits=replace(PATIENT, accept_s=SHORT_S))


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (pdu.abort(2, 0), errors.PeerAborted, r"aborted the association \(its upper layer: no reason given\)"),
        (b"", errors.PeerAborted, "connection closed by the peer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", errors.PeerMisbehaved, "sent what is no PDU: b'SSH-2.0-OpenSSH_"),
        (pdu.RELEASE_RP, errors.PeerMisbehaved, "answered A-ASSOCIATE-RQ with a PDU of type 6"),
        (struct.pack(">BxI", 2, 4) + b"what", errors.PeerMisbehaved, "sent a damaged A-ASSOCIATE-AC: "),
        (struct.pack(">BxI", 3, 1) + b"w", errors.PeerMisbehaved, "sent a damaged A-ASSOCIATE-RJ: "),
    ],
)
def test_what_comes_instead_of_an_answer_is_said(said: bytes, error: type[Exception], text: str) -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        reader.read_pdu()
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        take_until_closed(connection)

    with scripted(script) as peer, pytest.raises(error, match=f"^{peer}: {text}"):
        _store(peer)


# ---- in the middle


def _after_request(said: bytes) -> Script:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take(reader)
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        take_until_closed(connection)

    return script


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (response_pdu(message_id=2), errors.PeerMisbehaved, "answered request 2 instead of 1"),
        (response_pdu(field=commands.C_ECHO_RSP), errors.PeerMisbehaved, "sent command 8030 instead of 8001"),
        (
            command_pdu(commands.echo_request(1, "1.2.840.10008.1.1")),
            errors.PeerMisbehaved,
            "sent command 0030 instead of 8001",
        ),
        (command_pdu(b"what"), errors.PeerMisbehaved, "sent what is no DIMSE command: "),
        (data_pdu(pdv(b"what", is_command=False)), errors.PeerMisbehaved, "sent a data set in context 1 instead"),
        (response_pdu()[:20], errors.PeerAborted, "connection closed by the peer"),
        (struct.pack(">BxI", 4, 1 << 30), errors.PeerMisbehaved, "sent a PDU of type 4 with 1073741824 bytes"),
        (pdu.RELEASE_RQ, errors.PeerMisbehaved, "asked for the release of the association before it answered 1"),
        (pdu.abort(0, 0), errors.PeerAborted, r"aborted the association \(its service user\)"),
        (b"", errors.PeerAborted, "connection closed by the peer"),
        (b"HTTP/1.1 400 Bad Request", errors.PeerMisbehaved, "sent what is no PDU: b'HTTP/1.1 400 Bad'"),
    ],
)
def test_what_comes_instead_of_a_response_is_said(said: bytes, error: type[Exception], text: str) -> None:
    with scripted(_after_request(said)) as peer, pytest.raises(error, match=f"^{peer}: {text}"):
        _store(peer)


@pytest.mark.parametrize("said", [b"", response_pdu()[:20]])
def test_response_that_does_not_come_whole_is_given_up(said: bytes) -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take(reader)
        connection.sendall(said)
        take_until_closed(connection)

    limits = replace(PATIENT, response_s=SHORT_S)
    with (
        scripted(script) as peer,
        pytest.raises(errors.PeerTimedOut, match=f"^{peer}: no response to request 1 within 0.05 s"),
    ):
        _store(peer, limits=limits)


def test_peer_that_stops_reading_is_given_up() -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        reader.read_pdu()
        connection.recv(1, socket.MSG_PEEK)
        given_up.wait(60)

    given_up = threading.Event()
    limits = replace(PATIENT, send_s=SHORT_S)
    with scripted(script) as peer:
        with pytest.raises(errors.PeerTimedOut, match=f"^{peer}: took nothing of what was sent for 0.05 s$"):
            _store(peer, b"x" * 50_000_000, limits)
        given_up.set()


@pytest.mark.parametrize("said", [b"", pdu.abort(2, 6)])
def test_peer_that_goes_away_in_the_middle_of_an_object_is_said(said: bytes) -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        reader.read_pdu()
        connection.sendall(said)

    with scripted(script) as peer, pytest.raises(errors.PeerAborted, match=f"^{peer}: "):
        _store(peer, b"x" * 50_000_000)


def test_early_response_is_taken_when_the_object_is_sent() -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        reader.read_pdu()
        connection.sendall(response_pdu(status=Status(0xA700)))
        while reader.read_pdv() is not None:
            pass
        connection.sendall(pdu.RELEASE_RP)

    with scripted(script) as peer:
        assert _store(peer, b"x" * 5_000_000).is_out_of_resources
