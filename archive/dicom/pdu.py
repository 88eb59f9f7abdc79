"""Protocol data units: their types, their headers, and how long they may be."""

from __future__ import annotations

import struct

#: Types. Source: PS3.8 9.3.1
A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ = 1, 2, 3
P_DATA_TF, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = 4, 5, 6, 7

#: Longest P-DATA-TF PDU that is received or sent, whatever was agreed.
LONGEST_DATA = 1 << 20
#: Longest PDU of the negotiation: 128 contexts with a hundred transfer syntaxes each are 300 KB.
LONGEST_OTHER = 1 << 20
#: A PDV with a few bytes of data: who announces less cannot be sent anything.
SHORTEST_DATA = 16
#: What we take at least, because peers refuse less.
_SHORTEST_ANNOUNCED = 4096

#: Reason of an A-ABORT by the upper layer. Source: PS3.8 9.3.8
UNEXPECTED_PDU = 2

#: Type and length of a PDU. Source: PS3.8 9.3.1
HEADER = struct.Struct(">BxI")
#: Length, presentation context id and control bits of a PDV. Source: PS3.8 9.3.5.1, Annex E.2
PDV_HEADER = struct.Struct(">IBB")
_BOTH_HEADERS = struct.Struct(">BxIIBB")

#: Whole PDUs. Source: PS3.8 9.3.6, 9.3.7
RELEASE_RQ, RELEASE_RP = (struct.pack(">BxI4x", kind, 4) for kind in (A_RELEASE_RQ, A_RELEASE_RP))

_SOURCES = {0: "its service user", 2: "its upper layer"}
_REASONS = {
    0: "no reason given",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


def receivable(max_pdu_length: int) -> int:
    """Return what to announce for a wish; 0, which means no limit, and more than we take is the longest we take."""
    return min(max(max_pdu_length, _SHORTEST_ANNOUNCED), LONGEST_DATA) if max_pdu_length else LONGEST_DATA


def data_header(context_id: int, length: int, *, is_command: bool, is_last: bool) -> bytes:
    """Return what stands before a fragment of so many bytes that has a PDU for itself. Source: PS3.8 9.3.5"""
    return _BOTH_HEADERS.pack(P_DATA_TF, length + 6, length + 2, context_id, is_last << 1 | is_command)


def abort(source: int, reason: int) -> bytes:
    """Return an A-ABORT. Source: PS3.8 9.3.8"""
    return struct.pack(">BxI2xBB", A_ABORT, 4, source, reason)


def abort_text(body: memoryview) -> str:
    """Say in words who aborted an association, and why. Source: PS3.8 9.3.8"""
    if len(body) < 4:
        return "without a reason"
    source = _SOURCES.get(body[2], f"source {body[2]}")
    return f"{source}: {_REASONS.get(body[3], f'reason {body[3]}')}" if body[2] == 2 else source
