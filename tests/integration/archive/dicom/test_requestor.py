"""The service class user, with sockets: objects arrive, and whatever the peer does is said in time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from archive import errors
from archive.dicom import handshake, negotiation, pdu, wire
from archive.dicom.peer import VERIFICATION, Context, Limits, Peer
from archive.dicom.requestor import associate
from archive.dicom.status import Status
from tests.lab.accepting import Accepting, Keeping
from tests.lab.scripted import CT, PATIENT, accept, response_pdu, scripted, take, take_until_closed

SHORT_S = 0.05


def _store(peer: Peer, data: bytes = b"data", limits: Limits = PATIENT) -> Status:
    with associate(peer, "ARCFLEET", [CT], limits) as association:
        return association.store("1.2.3", CT, [data])


def test_no_response_of_twenty_thousand_is_lost() -> None:
    with Accepting() as accepting:
        with associate(accepting.peer, "ARCFLEET", [CT], PATIENT) as association:
            statuses = [association.store(f"1.2.{number}", CT, [b"x" * 300]) for number in range(20_000)]

        assert {status.code for status in statuses} == {0}
        assert isinstance(accepting.services, Keeping)
        assert [request.sop_uid for request, _ in accepting.services.objects] == [f"1.2.{n}" for n in range(20_000)]
        assert accepting.ending() == "released"


@pytest.mark.parametrize("max_pdu_length", [16, 1000, 16384, 131072, 0])
def test_object_arrives_as_it_was_sent_in_pdus_of_any_length(max_pdu_length: int) -> None:
    data = bytes(range(256)) * (20 if max_pdu_length == 16 else 6000)
    arrived = []

    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader, max_pdu_length=max_pdu_length)
        arrived.append(take(reader)[1])
        connection.sendall(response_pdu())
        assert reader.read_pdv() is None
        connection.sendall(pdu.RELEASE_RP)

    with scripted(script) as peer:
        status = _store(peer, data)

    assert status.is_success
    assert arrived == [data]


def test_data_set_is_taken_as_it_comes() -> None:
    chunks = [b"x" * 100_001, b"", b"y" * 99_999, b"z" * 2]
    with Accepting() as accepting, associate(accepting.peer, "ARCFLEET", [CT], PATIENT) as association:
        association.store("1.2.3", CT, iter(chunks))

        assert isinstance(accepting.services, Keeping)
        assert accepting.services.objects[0][1] == b"".join(chunks)


def test_echo_is_answered() -> None:
    with Accepting() as accepting, associate(accepting.peer, "ARCFLEET", [VERIFICATION], PATIENT) as association:
        assert association.echo().is_success


def test_status_and_comment_of_the_peer_are_returned() -> None:
    refusing = Keeping(answer=lambda _: Status(0xA700, "no place"))
    with Accepting(refusing) as accepting:
        status = _store(accepting.peer)

    assert status.text == "A700 Refused: Out of Resources (no place)"


def test_128_contexts_are_asked_for_and_answered() -> None:
    contexts = [Context(CT.sop_class_uid, f"1.2.840.10008.1.2.4.{n}") for n in range(negotiation.MOST_CONTEXTS)]
    with Accepting() as accepting, associate(accepting.peer, "ARCFLEET", contexts, PATIENT) as association:
        assert all(association.accepts(context) for context in contexts)
        association.store("1.2.3", contexts[-1], [b"data"])

        assert isinstance(accepting.services, Keeping)
        assert accepting.services.objects[0][0].transfer_syntax_uid == contexts[-1].transfer_syntax_uid


@pytest.mark.parametrize("count", [0, negotiation.MOST_CONTEXTS + 1])
def test_more_contexts_than_an_association_has_are_refused(count: int) -> None:
    contexts = [Context(CT.sop_class_uid, f"1.2.{n}") for n in range(count)]

    with pytest.raises(ValueError, match=f"{count} presentation contexts; 1 to 128"):
        associate(Peer("PACS", "127.0.0.1", 1), "ARCFLEET", contexts).__enter__()


def test_what_is_no_title_is_refused() -> None:
    with pytest.raises(ValueError, match="'ARCFLEET TOO LONG' is no AE title"):
        associate(Peer("PACS", "127.0.0.1", 1), "ARCFLEET TOO LONG", [CT]).__enter__()


def test_why_a_context_is_not_accepted_is_said() -> None:
    unknown = Context("1.2.3", CT.transfer_syntax_uid)
    with Accepting() as accepting, associate(accepting.peer, "ARCFLEET", [CT, unknown], PATIENT) as association:
        assert (association.accepts(CT), association.refusal(CT)) == (True, None)
        assert (association.accepts(unknown), association.refusal(unknown)) == (False, "abstract syntax not supported")
        assert association.refusal(VERIFICATION) == "not asked for"
        with pytest.raises(errors.PeerRejected, match=f"^{accepting.peer}: SOP class 1.2.3 in transfer syntax"):
            association.store("1.2.3", unknown, [b"data"])


def test_context_accepted_in_a_syntax_that_was_not_offered_is_not_used() -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        reader.read_pdu()
        answers = [negotiation.AnsweredContext(1, 0, "1.2.3")]
        connection.sendall(handshake.encode_acceptance(negotiation.Acceptance("PACS", "ARCFLEET", answers, 0)))
        take_until_closed(connection)

    limits = replace(PATIENT, release_s=SHORT_S)
    with scripted(script) as peer, associate(peer, "ARCFLEET", [CT, VERIFICATION], limits) as association:
        assert association.refusal(CT) == "accepted with transfer syntax '1.2.3', which was not offered"
        assert association.refusal(VERIFICATION) == "not answered"


# ---- its own end


def test_data_that_cannot_be_read_aborts_the_association() -> None:
    def data() -> Iterator[bytes]:
        yield b"x" * 1_000_000
        raise errors.SourceError("disk gone")

    with Accepting() as accepting:
        with (
            pytest.raises(errors.SourceError, match="disk gone"),
            associate(accepting.peer, "ARCFLEET", [CT], PATIENT) as association,
        ):
            association.store("1.2.3", CT, data())

        assert "aborted the association (its service user)" in accepting.ending()
        assert isinstance(accepting.services, Keeping)
        assert (accepting.services.objects, accepting.services.closed) == ([], 1)


def test_ended_association_is_not_used_again() -> None:
    with Accepting() as accepting, associate(accepting.peer, "ARCFLEET", [CT], PATIENT) as association:
        association.abort()

        with pytest.raises(errors.PeerAborted, match=f"^{accepting.peer}: the association is ended$"):
            association.store("1.2.3", CT, [b"data"])


def test_error_in_the_block_aborts_the_association() -> None:
    with Accepting() as accepting:
        with pytest.raises(KeyError), associate(accepting.peer, "ARCFLEET", [CT], PATIENT):
            raise KeyError("ours")

        assert "aborted the association (its service user)" in accepting.ending()


@pytest.mark.parametrize("said", [b"", pdu.abort(0, 0), b"garbage, and not little", pdu.RELEASE_RQ])
def test_release_that_is_not_answered_loses_nothing(said: bytes) -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take(reader)
        connection.sendall(response_pdu())
        reader.read_pdu()
        connection.sendall(said)
        take_until_closed(connection)

    limits = replace(PATIENT, release_s=SHORT_S)
    with scripted(script) as peer:
        assert _store(peer, limits=limits).is_success


def test_who_waits_for_a_response_can_be_told_to_stop() -> None:
    def stop() -> None:
        raise KeyError("told to stop")

    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take_until_closed(connection)

    with (
        scripted(script) as peer,
        pytest.raises(KeyError, match="told to stop"),
        associate(peer, "ARCFLEET", [CT], PATIENT, waiting=stop) as association,
    ):
        association.store("1.2.3", CT, [b"data"])
