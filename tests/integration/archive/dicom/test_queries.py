"""C-FIND and C-MOVE, with a peer that plays a script: all responses, refusals, and what a cancel does."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from archive import errors
from archive.dicom import commands, pdu, queries, wire
from archive.dicom.peer import Peer
from archive.dicom.requestor import Answer, associate
from tests.lab.answering import PENDING, keys, match, release, said
from tests.lab.scripted import PATIENT, accept, data_pdu, pdv, scripted, take, take_until_closed


def found(peer: Peer) -> list[str]:
    with associate(peer, "ARCFLEET", queries.contexts(queries.FIND_CLASS), PATIENT) as association:
        return [str(ds.StudyInstanceUID) for ds in queries.find(association, keys(StudyInstanceUID=""), 60)]


def test_all_matches_come() -> None:
    asked = []

    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        asked.append(take(reader))
        connection.sendall(match("1.2") + match("1.3") + said(commands.C_FIND_RSP, 0))
        release(connection, reader)

    with scripted(script) as peer:
        assert found(peer) == ["1.2", "1.3"]

    [(received, identifier)] = asked
    assert (received.command.field, received.command.sop_class_uid) == (commands.C_FIND_RQ, queries.FIND_CLASS)
    assert b"STUDY" in identifier


def test_query_that_is_refused_names_peer_and_status() -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take(reader)
        connection.sendall(match("1.2") + said(commands.C_FIND_RSP, 0xA700))
        take_until_closed(connection)

    with (
        scripted(script) as peer,
        pytest.raises(errors.PeerRefused, match=rf"^{peer}: C-FIND A700 Refused: Out of Resources$"),
    ):
        found(peer)


def test_match_that_is_no_data_set_is_said() -> None:
    no_number = pdv(b"\x28\0\x10\0US\x03\0abc", is_command=False)
    broken = said(commands.C_FIND_RSP, PENDING, has_data_set=True) + data_pdu(no_number)

    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take(reader)
        connection.sendall(broken)
        take_until_closed(connection)

    with scripted(script) as peer, pytest.raises(errors.PeerMisbehaved, match="sent a match that is no data set"):
        found(peer)


def test_peer_that_cannot_be_asked_says_why() -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take_until_closed(connection)

    with (
        scripted(script) as peer,
        pytest.raises(errors.PeerRejected, match="not accepted: not asked for"),
        associate(peer, "ARCFLEET", queries.contexts(queries.FIND_CLASS), PATIENT) as association,
    ):
        queries.move(association, keys(), "SINK", 60)


def moved(peer: Peer, *, stop_at: int | None = None) -> list[Answer]:
    """Move a study, and have enough behind so many responses."""
    answers: list[Answer] = []

    def waiting() -> None:
        if stop_at is not None and len(answers) >= stop_at:
            raise InterruptedError("enough")

    contexts = queries.contexts(queries.MOVE_CLASS)
    try:
        with associate(peer, "ARCFLEET", contexts, PATIENT, waiting=waiting) as association:
            for answer in queries.move(association, keys(StudyInstanceUID="1.2"), "SINK", 60):
                answers.append(answer)  # looked at while the next one is waited for
    except InterruptedError:
        assert stop_at is not None
    else:
        assert stop_at is None
    return answers


def numbers(answers: Sequence[Answer]) -> list[tuple[int, int | None, int | None]]:
    return [(one.status.code, one.sub_operations.remaining, one.sub_operations.completed) for one in answers]


def test_counters_of_a_move_are_told_as_they_come() -> None:
    asked = []

    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        asked.append(take(reader)[0].command.field)
        for left in (2, 1):
            connection.sendall(said(commands.C_MOVE_RSP, PENDING, left, 3 - left, 0, 0))
        connection.sendall(said(commands.C_MOVE_RSP, 0, 0, 3, 0, 0))
        release(connection, reader)

    with scripted(script) as peer:
        assert numbers(moved(peer)) == [(PENDING, 2, 1), (PENDING, 1, 2), (0, 0, 3)]
    assert asked == [commands.C_MOVE_RQ]


def test_who_has_enough_cancels_and_hears_how_far_it_came() -> None:
    asked = []

    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take(reader)
        connection.sendall(said(commands.C_MOVE_RSP, PENDING, 2, 1, 0, 0))
        received = take(reader)[0].command
        asked.append((received.field, received.message_id))
        connection.sendall(said(commands.C_MOVE_RSP, 0xFE00, 2, 1, 0, 0))
        take_until_closed(connection)

    with scripted(script) as peer:
        assert numbers(moved(peer, stop_at=1)) == [(PENDING, 2, 1), (0xFE00, 2, 1)]

    assert asked == [(commands.C_CANCEL_RQ, 1)]


def test_peer_that_does_not_end_what_was_canceled_is_left() -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take(reader)
        assert take(reader)[0].command.field == commands.C_CANCEL_RQ
        take_until_closed(connection)

    with scripted(script) as peer:
        assert moved(peer, stop_at=0) == []


def test_peer_that_goes_away_when_it_is_asked_to_cancel_is_not_blamed() -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take(reader)
        connection.sendall(said(commands.C_MOVE_RSP, PENDING, 2, 1, 0, 0))
        assert take(reader)[0].command.field == commands.C_CANCEL_RQ
        connection.sendall(pdu.abort(0, 0))

    with scripted(script) as peer:
        assert numbers(moved(peer, stop_at=1)) == [(PENDING, 2, 1)]
