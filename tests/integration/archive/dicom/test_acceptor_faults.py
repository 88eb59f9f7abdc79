"""The service class provider, with sockets: whatever a peer does harms nothing and is said."""

from __future__ import annotations

import struct

import pytest

from archive import errors
from archive.dicom import commands, handshake, negotiation, pdu
from archive.dicom.acceptor import AcceptorLimits, StoreRequest
from archive.dicom.status import Status
from tests.lab.accepting import Accepting, Keeping
from tests.lab.scripted import CT, command_pdu, data_pdu, pdv, store_pdus
from tests.lab.talk import CONTEXTS, REQUEST, Talk


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (negotiation.Request("A", "B", CONTEXTS, 0, protocol_version=2), "protocol version not supported"),
        (negotiation.Request("A", "B", CONTEXTS, 0, application_context="1.2"), "application context name not"),
    ],
)
def test_association_of_another_protocol_is_rejected(
    accepting: Accepting, request_: negotiation.Request, reason: str
) -> None:
    written = bytearray(handshake.encode_request(request_))
    written[6:8] = struct.pack(">H", request_.protocol_version)
    connection = accepting.connect()
    connection.sendall(
        bytes(written).replace(
            struct.pack(">BxH", 0x10, 21) + negotiation.APPLICATION_CONTEXT.encode(),
            struct.pack(">BxH", 0x10, 21) + request_.application_context.encode().ljust(21, b"\0"),
        )
    )
    answer = connection.recv(100)
    connection.close()

    assert reason in handshake.decode_rejection(answer[6:], "acceptor").reason_text
    assert accepting.ending().startswith("rejected (")
    assert accepting.proposals == []


def test_rejection_by_the_service_is_sent() -> None:
    with Accepting(negotiation.Rejection(1, 1, 7)) as accepting:
        talk = Talk(accepting)
        talk.connection.close()

        assert talk.answer == pdu.A_ASSOCIATE_RJ
        assert accepting.ending() == "rejected (permanent, service user: called AE title not recognized)"


def test_silent_connection_is_closed() -> None:
    with Accepting(limits=AcceptorLimits(artim_s=0.05)) as accepting:
        connection = accepting.connect()

        assert connection.recv(100) == pdu.abort(2, 0)
        assert connection.recv(100) == b""
        connection.close()
        assert "no A-ASSOCIATE-RQ within 0.05 s" in accepting.ending()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        store_pdus(b"data")[:3],
        store_pdus(b"data")[:-2],
        command_pdu(commands.store_request(1, CT.sop_class_uid, "1.2.3")),
    ],
)
def test_idle_association_is_aborted(said: bytes) -> None:
    keeping = Keeping()
    with Accepting(keeping, AcceptorLimits(artim_s=60, idle_s=0.05)) as accepting:
        talk = Talk(accepting)
        talk.say(said)

        assert talk.rest() == [pdu.A_ABORT]
        assert "within 0.05 s" in accepting.ending()
        assert (keeping.objects, keeping.closed) == ([], 1)


@pytest.mark.parametrize(
    ("said", "ending"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "sent what is no PDU: b'GET / HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "sent what is no PDU: "),
        (pdu.RELEASE_RQ, "began with a PDU of type 5 instead of A-ASSOCIATE-RQ"),
        (store_pdus(b"data"), "began with a PDU of type 4 instead of A-ASSOCIATE-RQ"),
        (struct.pack(">BxI", 1, 4) + b"what", "sent a damaged A-ASSOCIATE-RQ: "),
        (struct.pack(">BxI", 1, 1 << 31), "sent a PDU of type 1 with 2147483648 bytes"),
    ],
)
def test_garbage_instead_of_a_request_is_answered_by_an_abort(accepting: Accepting, said: bytes, ending: str) -> None:
    connection = accepting.connect()
    connection.sendall(said)

    assert connection.recv(100) == pdu.abort(2, 2)
    connection.close()
    assert ending in accepting.ending()


@pytest.mark.parametrize(
    ("said", "ending"),
    [
        (b"\0\0\0\0\0\0\0", "sent what is no PDU: "),
        (struct.pack(">BxI", 4, 131073), "sent a PDU of type 4 with 131073 bytes; at most 131072 are taken"),
        (data_pdu(), "sent a PDV of 0 bytes"),
        (data_pdu(pdv(b"what", is_command=False)), "sent a data set in context 1 instead of the command"),
        (command_pdu(b"what"), "sent what is no DIMSE command"),
        (command_pdu(commands.echo_request(1, "1.2"), 5), "sent a command in presentation context 5, which is not"),
        (command_pdu(commands.echo_request(1, "1.2"), 77), "sent a command in presentation context 77, which is not"),
        (
            command_pdu(commands.response(commands.Command(1, 1, "1.2", "1.2", has_data_set=True), Status(0))),
            "sent a response 8001; nothing was asked",
        ),
        (
            command_pdu(commands.store_request(1, "1.2", "1.2")) + command_pdu(commands.echo_request(2, "1.2")),
            "sent a command in context 1 instead of the data set in context 1",
        ),
        (
            command_pdu(commands.store_request(1, "1.2", "1.2")) + pdu.RELEASE_RQ,
            "asked for the release of the association within a message",
        ),
        (handshake.encode_request(REQUEST), "sent a PDU of type 1 instead of a request"),
    ],
)
def test_garbage_in_an_association_aborts_it(accepting: Accepting, keeping: Keeping, said: bytes, ending: str) -> None:
    talk = Talk(accepting)
    talk.say(said)

    assert talk.rest() == [pdu.A_ABORT]
    assert "aborted by us: MODALITY at 127.0.0.1:" in accepting.ending()
    assert ending in accepting.ending()
    assert (keeping.objects, keeping.closed) == ([], 1)


@pytest.mark.parametrize("cut", [1, 30, 100, 130, -1])
def test_connection_that_ends_anywhere_leaves_no_object(accepting: Accepting, keeping: Keeping, cut: int) -> None:
    talk = Talk(accepting)
    talk.say(store_pdus(b"data" * 10)[:cut])
    talk.connection.close()

    assert "MODALITY at 127.0.0.1:" in accepting.ending()
    assert "connection closed by the peer" in accepting.ending()
    assert (keeping.objects, keeping.closed) == ([], 1)


COMMAND = commands.store_request(1, CT.sop_class_uid, "1.2.3")


@pytest.mark.parametrize(
    "said",
    [
        data_pdu(pdv(COMMAND[:20], is_command=True, is_last=False)),
        command_pdu(COMMAND),
        command_pdu(COMMAND) + data_pdu(pdv(b"da", is_command=False, is_last=False)),
        data_pdu(pdv(COMMAND, is_command=True), pdv(b"da", is_command=False, is_last=False)),
    ],
)
def test_abort_within_a_message_leaves_no_object(accepting: Accepting, keeping: Keeping, said: bytes) -> None:
    talk = Talk(accepting)
    talk.say(said, pdu.abort(0, 0))
    talk.connection.close()

    assert "aborted the association (its service user)" in accepting.ending()
    assert (keeping.objects, keeping.closed) == ([], 1)


@pytest.mark.parametrize("last", [b"", pdu.abort(0, 0)])
def test_association_that_ends_between_objects_keeps_them(accepting: Accepting, keeping: Keeping, last: bytes) -> None:
    talk = Talk(accepting)
    talk.say(store_pdus(b"data"))
    talk.status()
    talk.say(last)
    talk.connection.close()

    accepting.ending()
    assert ([data for _, data in keeping.objects], keeping.closed) == ([b"data"], 1)


class _Swallowing(Keeping):
    """Answers with success whatever happens, as no service may."""

    def store(self, request: StoreRequest) -> Status:
        try:
            return super().store(request)
        except errors.PeerError:
            return Status(0)


def test_half_an_object_is_never_answered_with_success() -> None:
    swallowing = _Swallowing()
    with Accepting(swallowing) as accepting:
        talk = Talk(accepting)
        talk.say(command_pdu(commands.store_request(1, CT.sop_class_uid, "1.2.3")))
        talk.say(data_pdu(pdv(b"da", is_command=False, is_last=False)), data_pdu(pdv(b"no", is_command=True)))

        assert talk.rest() == [pdu.A_ABORT]
        assert swallowing.broken


def test_peer_that_takes_no_answers_is_given_up() -> None:
    long_comment = Keeping(answer=lambda _: Status(0x0110, "x" * 64))
    with Accepting(long_comment, AcceptorLimits(artim_s=60, idle_s=60, send_s=0.05)) as accepting:
        talk = Talk(accepting)
        talk.connection.settimeout(0.05)
        message = store_pdus(b"data")
        with pytest.raises(TimeoutError):  # noqa: PT012  # nobody takes any more
            while not accepting.endings:
                talk.connection.sendall(message * 1000)
            raise TimeoutError

        assert "took nothing of what was sent for 0.05 s" in accepting.ending()
        talk.connection.close()
