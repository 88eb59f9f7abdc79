"""DIMSE messages as they come: a command, and behind it a data set in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from archive.dicom import commands, pdu, wire

#: Longest command set taken; a C-STORE-RQ has about 200 bytes.
_LONGEST_COMMAND = 1 << 16
#: Parts of a data set that may bring nothing; one is usual, at the end.
_MOST_EMPTY = 1000


class Received(NamedTuple):
    """A command and the presentation context that it came in."""

    context_id: int
    command: commands.Command


def read_command(connection: wire.Wire) -> Received | None:
    """Read the command of the next message; None when the peer asks for the release of the association.

    Raises:
        PeerAborted, PeerTimedOut: as `Wire.read_pdu`.
        PeerMisbehaved: no command.

    Source: PS3.7 6.3.1, PS3.8 Annex E
    """
    pdv = connection.read_pdv()
    if pdv is None:
        return None
    context_id, parts, size = pdv.context_id, [], 0
    while True:
        if not pdv.is_command or pdv.context_id != context_id:
            raise connection.misbehaved(f"sent {_kind(pdv)} instead of the command in context {context_id}")
        parts.append(bytes(pdv.data))
        # Empty ones are not for nothing either.
        size += pdu.PDV_HEADER.size + len(pdv.data)
        if size > _LONGEST_COMMAND:
            raise connection.misbehaved(f"sent a command of more than {_LONGEST_COMMAND} bytes")
        if pdv.is_last:
            return Received(context_id, commands.decode(b"".join(parts), connection.peer))
        pdv = _next_pdv(connection)


def read_data_set(connection: wire.Wire, context_id: int, within_s: float) -> Iterator[bytes]:
    """Yield the data set behind a command, piece by piece.

    Args:
        connection: its command is read.
        context_id: of the command.
        within_s: how long the peer may send nothing, or less than is worth waiting for; 0 for any time.

    Raises:
        PeerAborted, PeerTimedOut, PeerMisbehaved: as `read_command`; the data set is not whole.
    """
    is_last, empty = False, 0
    connection.expect_steadily("next part of a data set", within_s)
    while not is_last:
        pdv = _next_pdv(connection)
        if pdv.is_command or pdv.context_id != context_id:
            raise connection.misbehaved(f"sent {_kind(pdv)} instead of the data set in context {context_id}")
        is_last = pdv.is_last
        if pdv.data:
            yield bytes(pdv.data)
        else:
            empty += 1
            if empty > _MOST_EMPTY:
                raise connection.misbehaved(f"sent a data set with more than {_MOST_EMPTY} empty parts")


def _next_pdv(connection: wire.Wire) -> wire.Pdv:
    pdv = connection.read_pdv()
    if pdv is None:
        raise connection.misbehaved("asked for the release of the association within a message")
    return pdv


def _kind(pdv: wire.Pdv) -> str:
    return f"a {'command' if pdv.is_command else 'data set'} in context {pdv.context_id}"
