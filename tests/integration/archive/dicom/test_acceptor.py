"""The service class provider, with sockets: objects reach the service whole, and it ends in order."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.dicom import acceptor, commands, handshake, negotiation, pdu
from archive.dicom.acceptor import AcceptorLimits, StoreRequest, converse
from archive.dicom.requestor import associate
from archive.dicom.status import Status
from tests.lab.accepting import Accepting, Keeping
from tests.lab.scripted import CT, PATIENT, command_pdu, data_pdu, pdv, store_pdus
from tests.lab.talk import CONTEXTS, REQUEST, Talk


def test_proposal_says_who_asks_for_what(accepting: Accepting) -> None:
    Talk(accepting).release()

    (proposal,) = accepting.proposals
    assert (proposal.calling, proposal.called, proposal.address[0]) == ("MODALITY", "ARCHIVE_A", "127.0.0.1")
    assert list(proposal.contexts) == CONTEXTS
    assert proposal.implementation_version == "ARCFLEET"


def test_answer_accepts_what_can_be_stored(accepting: Accepting) -> None:
    talk = Talk(accepting)

    acceptance = handshake.decode_acceptance(talk.answer_body, "acceptor")
    talk.release()

    assert [(context.id, context.result) for context in acceptance.contexts] == [(1, 0), (3, 0), (5, 3)]
    assert (acceptance.called, acceptance.calling, acceptance.max_pdu_length) == ("ARCHIVE_A", "MODALITY", 131072)


def test_association_in_which_nothing_is_accepted_ends_in_order(accepting: Accepting, keeping: Keeping) -> None:
    Talk(accepting, request=negotiation.Request("ARCHIVE_A", "MODALITY", CONTEXTS[2:], 0)).release()

    assert (accepting.ending(), keeping.closed) == ("released", 1)


def test_object_reaches_the_service_as_it_was_sent(accepting: Accepting, keeping: Keeping) -> None:
    talk = Talk(accepting)

    talk.say(
        store_pdus(b"one", 7), command_pdu(commands.echo_request(8, "1.2.840.10008.1.1"), 3), store_pdus(b"two", 9)
    )
    statuses = [talk.status() for _ in range(3)]
    talk.release()

    assert statuses == [Status(0)] * 3
    assert [data for _, data in keeping.objects] == [b"one", b"two"]
    request = keeping.objects[0][0]
    assert (request.message_id, request.sop_class_uid, request.sop_uid) == (7, CT.sop_class_uid, "1.2.3")
    assert request.transfer_syntax_uid == CT.transfer_syntax_uid


def test_several_fragments_in_one_pdu_and_empty_ones_are_taken(accepting: Accepting, keeping: Keeping) -> None:
    talk = Talk(accepting)
    command = commands.store_request(1, CT.sop_class_uid, "1.2.3")

    talk.say(
        data_pdu(
            pdv(b"", is_command=True, is_last=False),
            pdv(command, is_command=True),
            pdv(b"da", is_command=False, is_last=False),
            pdv(b"", is_command=False, is_last=False),
        ),
        data_pdu(pdv(b"ta", is_command=False, is_last=False), pdv(b"", is_command=False)),
    )
    talk.status()
    talk.release()

    assert [data for _, data in keeping.objects] == [b"data"]


class _Refusing(Keeping):
    """Reads one piece of the data set, in a way that closes generators, and refuses."""

    def store(self, request: StoreRequest) -> Status:
        def first() -> Iterator[bytes]:
            yield from request.chunks

        pieces = first()
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        return Status(0xA700, "no place")


def test_data_behind_a_refusal_is_thrown_away() -> None:
    with Accepting(_Refusing()) as accepting, associate(accepting.peer, "MODALITY", [CT], PATIENT) as association:
        statuses = [association.store("1.2.3", CT, [b"x" * 1_000_000]) for _ in range(3)]

    assert statuses == [Status(0xA700, "no place")] * 3


@pytest.mark.parametrize(
    ("command", "context_id", "status"),
    [
        (commands.store_request(1, CT.sop_class_uid, "1.2.3"), 3, Status(0x0211)),
        (
            commands.store_request(1, CT.sop_class_uid, "1.2.3").replace(
                struct.pack("<HHIH", 0, 0x100, 2, 1), struct.pack("<HHIH", 0, 0x100, 2, 0x20)
            ),
            1,
            Status(0x0211),
        ),
    ],
)
def test_other_operations_are_refused_and_the_association_stays(
    accepting: Accepting, keeping: Keeping, command: bytes, context_id: int, status: Status
) -> None:
    talk = Talk(accepting)

    talk.say(command_pdu(command, context_id), data_pdu(pdv(b"identifier", is_command=False, context_id=context_id)))
    found = talk.status()
    talk.say(store_pdus(b"data"))
    after = talk.status()
    talk.release()

    assert (found, after) == (status, Status(0))
    assert [data for _, data in keeping.objects] == [b"data"]


def test_store_without_a_data_set_is_refused(accepting: Accepting, keeping: Keeping) -> None:
    talk = Talk(accepting)
    command = commands.store_request(1, CT.sop_class_uid, "1.2.3").replace(
        struct.pack("<HHIH", 0, 0x800, 2, 1), struct.pack("<HHIH", 0, 0x800, 2, 0x0101)
    )

    talk.say(command_pdu(command))
    status = talk.status()
    talk.release()

    assert status == Status(0xC000, "C-STORE without a data set")
    assert keeping.objects == []


def test_cancel_is_ignored(accepting: Accepting) -> None:
    talk = Talk(accepting)
    cancel = b"".join(
        struct.pack("<HHIH", 0, element, 2, value) for element, value in ((0x100, 0x0FFF), (0x120, 1), (0x800, 0x0101))
    )

    talk.say(command_pdu(cancel), store_pdus(b"data", 9))
    status = talk.status()
    talk.release()

    assert status == Status(0)


# ---- its own end


class _Broken(Keeping):
    def store(self, request: StoreRequest) -> Status:
        raise KeyError("a fault of ours")


def test_fault_of_the_service_aborts_the_association_and_is_raised() -> None:
    ours, theirs = socket.socketpair()
    broken = _Broken()
    theirs.sendall(handshake.encode_request(REQUEST) + store_pdus(b"data"))
    theirs.shutdown(socket.SHUT_WR)

    with pytest.raises(KeyError, match="a fault of ours"):
        converse(ours, ("127.0.0.1", 104), lambda _: broken, AcceptorLimits(), lambda: False)

    assert b"".join(iter(lambda: theirs.recv(1 << 16), b"")).endswith(pdu.abort(0, 0))
    assert broken.closed == 1
    theirs.close()


def test_service_told_to_stop_aborts_an_idle_association() -> None:
    stopping = threading.Event()
    with Accepting(stopping=stopping.is_set) as accepting:
        talk = Talk(accepting)
        stopping.set()

        assert talk.rest() == [pdu.A_ABORT]
        assert accepting.ending() == "aborted by us: told to stop"


class _Beginning(Keeping):
    """Tells that an object is in flight."""

    def __init__(self, began: threading.Event) -> None:
        super().__init__()
        self._began = began

    def store(self, request: StoreRequest) -> Status:
        self._began.set()
        return super().store(request)


def test_service_told_to_stop_ends_the_object_in_flight() -> None:
    began, stopping = threading.Event(), threading.Event()
    keeping = _Beginning(began)
    with Accepting(keeping, stopping=stopping.is_set) as accepting:
        talk = Talk(accepting)
        message = store_pdus(b"data")
        talk.say(message[:-2])
        began.wait(60)
        stopping.set()
        talk.say(message[-2:])

        assert talk.status() == Status(0)
        assert talk.rest() == [pdu.A_ABORT]
        assert [data for _, data in keeping.objects] == [b"data"]


def test_service_told_to_stop_does_not_wait_long_for_the_object_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_LAST_OBJECT_S", 0.1)
    began, stopping = threading.Event(), threading.Event()
    with Accepting(_Beginning(began), stopping=stopping.is_set) as accepting:
        talk = Talk(accepting)
        talk.say(store_pdus(b"data")[:-2])
        began.wait(60)
        stopping.set()

        assert talk.rest() == [pdu.A_ABORT]
        assert accepting.ending() == "aborted by us: told to stop"


@settings(deadline=None, max_examples=150)
@given(changes=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=3), cut=st.integers(0, 400))
def test_nothing_that_a_peer_says_is_an_error(changes: list[tuple[int, int]], cut: int) -> None:
    said = bytearray(handshake.encode_request(REQUEST) + store_pdus(b"data") + pdu.RELEASE_RQ)
    for at, value in changes:
        said[at % len(said)] = value
    ours, theirs = socket.socketpair()
    theirs.sendall(said[: max(0, len(said) - cut)])
    theirs.shutdown(socket.SHUT_WR)

    keeping = Keeping()
    how = converse(ours, ("127.0.0.1", 104), lambda _: keeping, AcceptorLimits(), lambda: False)
    theirs.close()

    assert how
    assert keeping.closed <= 1
