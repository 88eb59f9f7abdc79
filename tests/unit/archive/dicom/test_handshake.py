"""The PDUs of the negotiation: pynetdicom reads what we write and writes what we read, garbage is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)

from archive import dicom, errors
from archive.dicom import handshake, negotiation
from archive.dicom.negotiation import Acceptance, AnsweredContext, ProposedContext, Rejection, Request

PEER = "PACS at 127.0.0.1:11112"
CT, VERIFICATION = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
#: Type and length, which are read before the rest.
HEADER = 6

REQUEST = Request(
    called="PACS",
    calling="ARCFLEET",
    contexts=[ProposedContext(1, CT, (EXPLICIT, IMPLICIT)), ProposedContext(3, VERIFICATION, (IMPLICIT,))],
    max_pdu_length=131072,
)
ACCEPTANCE = Acceptance(
    called="PACS",
    calling="ARCFLEET",
    contexts=[AnsweredContext(1, 0, EXPLICIT), AnsweredContext(3, 4, "")],
    max_pdu_length=0,
)


def test_request_is_read_as_it_was_written() -> None:
    assert handshake.decode_request(handshake.encode_request(REQUEST)[HEADER:], PEER) == REQUEST


def test_acceptance_is_read_as_it_was_written() -> None:
    assert handshake.decode_acceptance(handshake.encode_acceptance(ACCEPTANCE)[HEADER:], PEER) == ACCEPTANCE


def test_rejection_is_read_as_it_was_written() -> None:
    rejection = Rejection(2, 3, 2)

    assert handshake.decode_rejection(handshake.encode_rejection(rejection)[HEADER:], PEER) == rejection
    assert (rejection.text, rejection.is_transient) == (
        "transient, upper layer (presentation): local limit exceeded",
        True,
    )


def test_pynetdicom_reads_our_request() -> None:
    found = A_ASSOCIATE_RQ()
    found.decode(handshake.encode_request(REQUEST))
    asked = found.to_primitive()

    assert (asked.called_ae_title, asked.calling_ae_title) == ("PACS", "ARCFLEET")
    assert asked.maximum_length_received == 131072
    assert asked.implementation_class_uid == dicom.IMPLEMENTATION_CLASS_UID
    assert [
        ProposedContext(context.context_id, context.abstract_syntax, tuple(context.transfer_syntax))
        for context in asked.presentation_context_definition_list
    ] == REQUEST.contexts


def test_pynetdicom_reads_our_acceptance() -> None:
    found = A_ASSOCIATE_AC()
    found.decode(handshake.encode_acceptance(ACCEPTANCE))
    answered = found.to_primitive()

    assert answered.maximum_length_received == 0
    assert [
        (context.context_id, context.result) for context in answered.presentation_context_definition_results_list
    ] == [(1, 0), (3, 4)]


def test_pynetdicom_reads_our_rejection() -> None:
    found = A_ASSOCIATE_RJ()
    found.decode(handshake.encode_rejection(Rejection(1, 1, 7)))

    assert (found.result, found.source, found.reason_diagnostic) == (1, 1, 7)


def test_request_of_pynetdicom_with_all_that_can_be_asked_for_is_read() -> None:
    asked = A_ASSOCIATE()
    asked.application_context_name = negotiation.APPLICATION_CONTEXT
    asked.calling_ae_title, asked.called_ae_title = "MODALITY", "ARCHIVE_A"
    asked.presentation_context_definition_list = [build_context(CT, [EXPLICIT, IMPLICIT])]
    asked.presentation_context_definition_list[0].context_id = 255
    length, class_uid = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, class_uid.implementation_class_uid = 16382, "1.2.3"
    version, role, user = (
        ImplementationVersionNameNotification(),
        SCP_SCU_RoleSelectionNegotiation(),
        UserIdentityNegotiation(),
    )
    version.implementation_version_name = "MODALITY_1"
    role.sop_class_uid, role.scu_role, role.scp_role = CT, True, True
    user.user_identity_type, user.primary_field = 1, b"somebody"
    asked.user_information = [role, user, version, class_uid, length]
    written = A_ASSOCIATE_RQ()
    written.from_primitive(asked)

    found = handshake.decode_request(written.encode()[HEADER:], PEER)

    assert found == Request(
        "ARCHIVE_A", "MODALITY", [ProposedContext(255, CT, (EXPLICIT, IMPLICIT))], 16382, "1.2.3", "MODALITY_1"
    )


def test_items_that_we_do_not_know_are_left_out() -> None:
    body = handshake.encode_request(REQUEST)[HEADER:] + struct.pack(">BxH", 0x99, 4) + b"what"

    assert handshake.decode_request(body, PEER) == REQUEST


def test_titles_may_be_padded_with_nul() -> None:
    body = bytearray(handshake.encode_request(REQUEST)[HEADER:])
    body[4:20] = b"PACS".ljust(16, b"\0")

    assert handshake.decode_request(bytes(body), PEER).called == "PACS"


def test_titles_bring_no_control_characters_into_logs() -> None:
    body = bytearray(handshake.encode_request(REQUEST)[HEADER:])
    body[20:36] = b"A\x1b[1m\nB\xe4".ljust(16)

    assert handshake.decode_request(bytes(body), PEER).calling == "A?[1m?B\ufffd"


def test_peer_that_does_not_say_what_it_takes_is_sent_what_all_take() -> None:
    length_item = struct.pack(">BxHI", 0x51, 4, 131072)
    body = handshake.encode_request(REQUEST)[HEADER:].replace(length_item, struct.pack(">BxHI", 0x77, 4, 0))

    assert handshake.decode_request(body, PEER).max_pdu_length == 16384


def test_128_contexts_are_written_and_read() -> None:
    contexts = [ProposedContext(2 * n + 1, f"1.2.{n}", (IMPLICIT,)) for n in range(negotiation.MOST_CONTEXTS)]
    request = Request("PACS", "ARCFLEET", contexts, 0)

    assert handshake.decode_request(handshake.encode_request(request)[HEADER:], PEER).contexts == contexts


@pytest.mark.parametrize(
    ("contexts", "why"),
    [
        ([ProposedContext(2, CT, (IMPLICIT,))], "presentation context id 2 is not odd"),
        ([ProposedContext(1, CT, ()), ProposedContext(1, CT, ())], "two presentation contexts of the same id"),
    ],
)
def test_wrong_context_ids_are_refused(contexts: list[ProposedContext], why: str) -> None:
    body = handshake.encode_request(Request("PACS", "ARCFLEET", contexts, 0))[HEADER:]

    with pytest.raises(errors.PeerMisbehaved, match=f"^{PEER}: sent a damaged A-ASSOCIATE-RQ: {why}"):
        handshake.decode_request(body, PEER)


@pytest.mark.parametrize("title", ["", " ", "x" * 17, "Ä", "A\\B", "A\tB"])
def test_what_is_no_title_is_known(title: str) -> None:
    assert not negotiation.is_title(title)


_DECODERS = [handshake.decode_request, handshake.decode_acceptance, handshake.decode_rejection]
_BODIES = [
    handshake.encode_request(REQUEST)[HEADER:],
    handshake.encode_acceptance(ACCEPTANCE)[HEADER:],
    handshake.encode_rejection(Rejection(1, 1, 1))[HEADER:],
]


@pytest.mark.parametrize("decode", _DECODERS)
@settings(deadline=None, max_examples=200)
@given(body=st.binary(max_size=200))
def test_no_garbage_is_worse_than_misbehaviour(decode: Callable[[bytes, object], object], body: bytes) -> None:
    try:
        decode(body, PEER)
    except errors.PeerMisbehaved as error:
        assert str(error).startswith(PEER)  # noqa: PT017  # that it comes is not what is tested


@pytest.mark.parametrize(("decode", "body"), list(zip(_DECODERS, _BODIES, strict=True)))
@settings(deadline=None, max_examples=300)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5), cut=st.integers(0, 300))
def test_no_damage_is_worse_than_misbehaviour(
    decode: Callable[[bytes, object], object], body: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(body)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    for data in (bytes(damaged), bytes(damaged[: max(0, len(damaged) - cut)])):
        try:
            decode(data, PEER)
        except errors.PeerMisbehaved:
            continue
