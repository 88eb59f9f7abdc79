"""DIMSE command sets: the few elements of group 0000 that say what a message is."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from archive import errors
from archive.dicom.status import Status

#: Command Field (0000,0100). Source: PS3.7 Annex E.1-1
C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
C_FIND_RQ, C_FIND_RSP = 0x0020, 0x8020
C_MOVE_RQ, C_MOVE_RSP = 0x0021, 0x8021
C_ECHO_RQ, C_ECHO_RSP = 0x0030, 0x8030
C_CANCEL_RQ = 0x0FFF
#: Set in the command field of each response.
RESPONSE = 0x8000

#: Element numbers of group 0000. Source: PS3.7 Annex E.1
_GROUP_LENGTH = 0x0000
_AFFECTED_CLASS = 0x0002
_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_RESPONDED_TO = 0x0120
_MOVE_DESTINATION = 0x0600
_PRIORITY = 0x0700
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_OFFENDING = 0x0901
_COMMENT = 0x0902
_AFFECTED_INSTANCE = 0x1000
_REMAINING, _COMPLETED, _FAILED, _WARNING = 0x1020, 0x1021, 0x1022, 0x1023

_NO_DATA_SET, _DATA_SET = 0x0101, 0x0001

#: Longest Error Comment. Source: PS3.7 Annex C, PS3.5 6.2 (LO)
_LONGEST_COMMENT = 64

_ELEMENT = struct.Struct("<HHI")
_SHORT = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class SubOperations:
    """How far a C-MOVE is; a number that the peer does not say is None. Source: PS3.7 9.1.4.1.7 to 9.1.4.1.10"""

    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None


class Command(NamedTuple):
    """What a message is: a request or a response, of which operation, about which object."""

    #: Command Field (0000,0100).
    field: int
    #: Message ID (0000,0110) of a request, Message ID Being Responded To (0000,0120) of a response.
    message_id: int
    sop_class_uid: str
    sop_uid: str
    has_data_set: bool
    #: Of a response; None of a request.
    status: Status | None = None
    #: Of a response to C-MOVE.
    sub_operations: SubOperations = SubOperations()

    @property
    def is_response(self) -> bool:
        """Say whether this answers a request."""
        return bool(self.field & RESPONSE)


def store_request(message_id: int, sop_class_uid: str, sop_uid: str, priority: int = 0) -> bytes:
    """Return the command set of a C-STORE-RQ; priority 0 is medium, 1 high, 2 low. Source: PS3.7 9.3.1.1"""
    return _encode(
        {
            _AFFECTED_CLASS: _uid(sop_class_uid),
            _FIELD: _SHORT.pack(C_STORE_RQ),
            _MESSAGE_ID: _SHORT.pack(message_id),
            _PRIORITY: _SHORT.pack(priority),
            _DATA_SET_TYPE: _SHORT.pack(_DATA_SET),
            _AFFECTED_INSTANCE: _uid(sop_uid),
        }
    )


def echo_request(message_id: int, sop_class_uid: str) -> bytes:
    """Return the command set of a C-ECHO-RQ. Source: PS3.7 9.3.5.1"""
    return _encode(
        {
            _AFFECTED_CLASS: _uid(sop_class_uid),
            _FIELD: _SHORT.pack(C_ECHO_RQ),
            _MESSAGE_ID: _SHORT.pack(message_id),
            _DATA_SET_TYPE: _SHORT.pack(_NO_DATA_SET),
        }
    )


def find_request(message_id: int, sop_class_uid: str, priority: int = 0) -> bytes:
    """Return the command set of a C-FIND-RQ, whose keys follow. Source: PS3.7 9.3.2.1"""
    return _query_request(C_FIND_RQ, message_id, sop_class_uid, priority)


def move_request(message_id: int, sop_class_uid: str, destination: str, priority: int = 0) -> bytes:
    """Return the command set of a C-MOVE-RQ to the AE `destination`, whose keys follow. Source: PS3.7 9.3.4.1"""
    return _query_request(C_MOVE_RQ, message_id, sop_class_uid, priority, destination)


def _query_request(
    field: int, message_id: int, sop_class_uid: str, priority: int, destination: str | None = None
) -> bytes:
    elements = {
        _AFFECTED_CLASS: _uid(sop_class_uid),
        _FIELD: _SHORT.pack(field),
        _MESSAGE_ID: _SHORT.pack(message_id),
        _MOVE_DESTINATION: b"" if destination is None else _padded(destination.encode("ascii"), b" "),
        _PRIORITY: _SHORT.pack(priority),
        _DATA_SET_TYPE: _SHORT.pack(_DATA_SET),
    }
    return _encode({element: value for element, value in elements.items() if value})


def cancel_request(message_id: int) -> bytes:
    """Return the command set of a C-CANCEL-RQ for the request of this id. Source: PS3.7 9.3.2.3"""
    return _encode(
        {
            _FIELD: _SHORT.pack(C_CANCEL_RQ),
            _RESPONDED_TO: _SHORT.pack(message_id),
            _DATA_SET_TYPE: _SHORT.pack(_NO_DATA_SET),
        }
    )


def response(request: Command, status: Status) -> bytes:
    """Return the command set that answers a request without a data set. Source: PS3.7 9.3.1.2, 9.3.5.2"""
    elements = {
        _AFFECTED_CLASS: _uid(request.sop_class_uid),
        _FIELD: _SHORT.pack(request.field | RESPONSE),
        _RESPONDED_TO: _SHORT.pack(request.message_id),
        _DATA_SET_TYPE: _SHORT.pack(_NO_DATA_SET),
        _STATUS: _SHORT.pack(status.code),
        _OFFENDING: b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in status.offending),
        _COMMENT: _padded(_comment(status.comment), b" "),
        _AFFECTED_INSTANCE: _uid(request.sop_uid),
    }
    return _encode({element: value for element, value in elements.items() if value})


def _encode(elements: Mapping[int, bytes]) -> bytes:
    """Write elements, in the order of their numbers, in Implicit VR Little Endian. Source: PS3.7 6.3.1"""
    body = b"".join(_ELEMENT.pack(0, element, len(value)) + value for element, value in elements.items())
    return _ELEMENT.pack(0, _GROUP_LENGTH, 4) + struct.pack("<I", len(body)) + body


def _uid(uid: str) -> bytes:
    return _padded(uid.encode("ascii", "replace"), b"\0")


def _padded(value: bytes, pad: bytes) -> bytes:
    return value + pad if len(value) % 2 else value


def _comment(comment: str | None) -> bytes:
    """Return a comment as every peer can read it: ASCII, no control characters, no backslash, not too long."""
    text = "".join(c if c.isprintable() and c != "\\" else " " for c in comment or "")
    return " ".join(text.split()).encode("ascii", "replace")[:_LONGEST_COMMENT].rstrip()


def decode(data: bytes, peer: object) -> Command:
    """Read a command set.

    Elements that we do not know are left out; what is missing and not needed is empty.

    Args:
        data: all fragments of the command, joined.
        peer: begins the text of the error.

    Raises:
        PeerMisbehaved: not a command set, or one without the elements that say what it is.

    Source: PS3.7 6.3.1, Annex E.1
    """
    try:
        elements = _elements(data)
        field = _number(elements, _FIELD)
        is_response = bool(field & RESPONSE)
        return Command(
            field=field,
            message_id=_number(elements, _RESPONDED_TO if is_response or field == C_CANCEL_RQ else _MESSAGE_ID),
            sop_class_uid=_text(elements, _AFFECTED_CLASS),
            sop_uid=_text(elements, _AFFECTED_INSTANCE),
            has_data_set=_number(elements, _DATA_SET_TYPE) != _NO_DATA_SET,
            status=_status(elements) if is_response else None,
            sub_operations=_sub_operations(elements) if field == C_MOVE_RSP else SubOperations(),
        )
    except ValueError as error:
        raise errors.PeerMisbehaved(f"{peer}: sent what is no DIMSE command: {error}") from error


def _elements(data: bytes) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        if len(data) - offset < _ELEMENT.size:
            raise ValueError(f"{len(data) - offset} bytes behind its last element")
        group, element, length = _ELEMENT.unpack_from(data, offset)
        offset += _ELEMENT.size + length
        if group != 0 or offset > len(data):
            raise ValueError(f"element ({group:04X},{element:04X}) of {length} bytes in {len(data)}")
        elements[element] = data[offset - length : offset]
    return elements


def _number(elements: Mapping[int, bytes], element: int) -> int:
    value = elements.get(element)
    if value is None or len(value) != _SHORT.size:
        raise ValueError(f"(0000,{element:04X}) {'is missing' if value is None else 'is no 16-bit number'}")
    return int.from_bytes(value, "little")


def _text(elements: Mapping[int, bytes], element: int) -> str:
    return elements.get(element, b"").decode("ascii", "replace").strip("\0 ")


def _sub_operations(elements: Mapping[int, bytes]) -> SubOperations:
    numbers = (elements.get(element) for element in (_REMAINING, _COMPLETED, _FAILED, _WARNING))
    return SubOperations(*(int.from_bytes(one, "little") if one else None for one in numbers))


def _status(elements: Mapping[int, bytes]) -> Status:
    tags = elements.get(_OFFENDING, b"")
    comment = "".join(c if c.isprintable() else " " for c in _text(elements, _COMMENT)).strip()
    return Status(
        _number(elements, _STATUS),
        comment or None,
        tuple(group << 16 | element for group, element in struct.iter_unpack("<HH", tags[: len(tags) & ~3])),
    )
