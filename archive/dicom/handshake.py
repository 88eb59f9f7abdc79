"""The PDUs by which two application entities agree on an association, or do not: written and read."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict, TypeVar

from archive import errors
from archive.dicom import negotiation, pdu

#: Source: PS3.8 9.3.2, 9.3.3, Annex D.1, PS3.7 D.3.3
_APPLICATION_CONTEXT_ITEM = 0x10
_PROPOSED_ITEM, _ANSWERED_ITEM = 0x20, 0x21
_ABSTRACT_SYNTAX_ITEM, _TRANSFER_SYNTAX_ITEM = 0x30, 0x40
_USER_INFORMATION_ITEM = 0x50
_MAX_LENGTH_ITEM, _CLASS_UID_ITEM, _VERSION_NAME_ITEM = 0x51, 0x52, 0x55

#: What a peer is sent that does not say what it takes, which it must: what all take.
_UNSAID_MAX_LENGTH = 16384

_FIXED = struct.Struct(">HH16s16s32x")
_ITEM = struct.Struct(">BxH")

T = TypeVar("T")


def encode_request(request: negotiation.Request) -> bytes:
    """Return the PDU. Source: PS3.8 9.3.2"""
    contexts = (_proposed(context) for context in request.contexts)
    return _associate(pdu.A_ASSOCIATE_RQ, request, contexts)


def encode_acceptance(acceptance: negotiation.Acceptance) -> bytes:
    """Return the PDU. Source: PS3.8 9.3.3"""
    contexts = (_answered(context) for context in acceptance.contexts)
    return _associate(pdu.A_ASSOCIATE_AC, acceptance, contexts)


def encode_rejection(rejection: negotiation.Rejection) -> bytes:
    """Return the PDU. Source: PS3.8 9.3.4"""
    return struct.pack(">BxIxBBB", pdu.A_ASSOCIATE_RJ, 4, rejection.result, rejection.source, rejection.reason)


def _associate(kind: int, values: negotiation.Request | negotiation.Acceptance, contexts: Iterator[bytes]) -> bytes:
    user_information = (
        _item(_MAX_LENGTH_ITEM, struct.pack(">I", values.max_pdu_length)),
        _item(_CLASS_UID_ITEM, values.implementation_class_uid.encode("ascii")),
        _item(_VERSION_NAME_ITEM, values.implementation_version.encode("ascii")),
    )
    titles = (title.encode("ascii", "replace").ljust(16) for title in (values.called, values.calling))
    body = b"".join(
        (
            _FIXED.pack(1, 0, *titles),
            _item(_APPLICATION_CONTEXT_ITEM, negotiation.APPLICATION_CONTEXT.encode("ascii")),
            *contexts,
            _item(_USER_INFORMATION_ITEM, *user_information),
        )
    )
    return struct.pack(">BxI", kind, len(body)) + body


def _proposed(context: negotiation.ProposedContext) -> bytes:
    syntaxes = (_item(_TRANSFER_SYNTAX_ITEM, uid.encode("ascii")) for uid in context.transfer_syntaxes)
    abstract_syntax = _item(_ABSTRACT_SYNTAX_ITEM, context.abstract_syntax.encode("ascii"))
    return _item(_PROPOSED_ITEM, bytes((context.id, 0, 0, 0)), abstract_syntax, *syntaxes)


def _answered(context: negotiation.AnsweredContext) -> bytes:
    syntax = _item(_TRANSFER_SYNTAX_ITEM, context.transfer_syntax.encode("ascii", "replace"))
    return _item(_ANSWERED_ITEM, bytes((context.id, 0, context.result, 0)), syntax)


def _item(kind: int, *parts: bytes) -> bytes:
    return b"".join((_ITEM.pack(kind, sum(map(len, parts))), *parts))


def decode_request(body: bytes, peer: object) -> negotiation.Request:
    """Read the body of an A-ASSOCIATE-RQ; items that we do not know are left out, as they must be.

    Args:
        body: behind type and length.
        peer: begins the text of the error.

    Raises:
        PeerMisbehaved: not what it must be.

    Source: PS3.8 9.3.1, 9.3.2
    """
    return _decoded(body, peer, "A-ASSOCIATE-RQ", _request)


def decode_acceptance(body: bytes, peer: object) -> negotiation.Acceptance:
    """Read the body of an A-ASSOCIATE-AC, as `decode_request`. Source: PS3.8 9.3.3"""
    return _decoded(body, peer, "A-ASSOCIATE-AC", _acceptance)


def decode_rejection(body: bytes, peer: object) -> negotiation.Rejection:
    """Read the body of an A-ASSOCIATE-RJ, as `decode_request`. Source: PS3.8 9.3.4"""
    return _decoded(body, peer, "A-ASSOCIATE-RJ", lambda data: negotiation.Rejection(*struct.unpack_from("xBBB", data)))


def _decoded(body: bytes, peer: object, name: str, read: Callable[[bytes], T]) -> T:
    try:
        return read(body)
    except (ValueError, struct.error) as error:
        raise errors.PeerMisbehaved(f"{peer}: sent a damaged {name}: {error}") from error


def _request(body: bytes) -> negotiation.Request:
    version, _, called, calling = _FIXED.unpack_from(body)
    items = list(_items(body[_FIXED.size :]))
    contexts = [_read_proposed(value) for kind, value in items if kind == _PROPOSED_ITEM]
    if len({context.id for context in contexts}) < len(contexts):
        raise ValueError("two presentation contexts of the same id")
    return negotiation.Request(
        called=_text(called),
        calling=_text(calling),
        contexts=contexts,
        application_context=_text(_first(items, _APPLICATION_CONTEXT_ITEM)),
        protocol_version=version,
        **_user_information(items),
    )


def _acceptance(body: bytes) -> negotiation.Acceptance:
    _, _, called, calling = _FIXED.unpack_from(body)
    items = list(_items(body[_FIXED.size :]))
    return negotiation.Acceptance(
        called=_text(called),
        calling=_text(calling),
        contexts=[_read_answered(value) for kind, value in items if kind == _ANSWERED_ITEM],
        **_user_information(items),
    )


class _UserInformation(TypedDict):
    max_pdu_length: int
    implementation_class_uid: str
    implementation_version: str


def _user_information(items: Sequence[tuple[int, bytes]]) -> _UserInformation:
    known = list(_items(_first(items, _USER_INFORMATION_ITEM)))
    max_length = _first(known, _MAX_LENGTH_ITEM)
    return _UserInformation(
        max_pdu_length=struct.unpack(">I", max_length)[0] if max_length else _UNSAID_MAX_LENGTH,
        implementation_class_uid=_text(_first(known, _CLASS_UID_ITEM)),
        implementation_version=_text(_first(known, _VERSION_NAME_ITEM)),
    )


def _read_proposed(value: bytes) -> negotiation.ProposedContext:
    items = list(_items(value[4:]))
    syntaxes = tuple(_text(uid) for kind, uid in items if kind == _TRANSFER_SYNTAX_ITEM)
    return negotiation.ProposedContext(_context_id(value), _text(_first(items, _ABSTRACT_SYNTAX_ITEM)), syntaxes)


def _read_answered(value: bytes) -> negotiation.AnsweredContext:
    context_id, result = _context_id(value), value[2]
    # Where it is refused, peers put anything here. It is not to be looked at.
    syntax = _text(_first(list(_items(value[4:])), _TRANSFER_SYNTAX_ITEM)) if result == negotiation.ACCEPTANCE else ""
    return negotiation.AnsweredContext(context_id, result, syntax)


def _context_id(value: bytes) -> int:
    if len(value) < 4:
        raise ValueError(f"a presentation context of {len(value)} bytes")
    if value[0] % 2 == 0:
        raise ValueError(f"presentation context id {value[0]} is not odd")
    return value[0]


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(data):
        kind, length = _ITEM.unpack_from(data, offset)
        offset += _ITEM.size + length
        if offset > len(data):
            raise ValueError(f"an item of type {kind:02X} ends {offset - len(data)} bytes behind what holds it")
        yield kind, data[offset - length : offset]


def _first(items: Sequence[tuple[int, bytes]], kind: int) -> bytes:
    return next((value for found, value in items if found == kind), b"")


def _text(value: bytes) -> str:
    """Return a UID or a title without what pads it; some peers pad with NUL, some UIDs with a space."""
    text = value.decode("ascii", "replace").strip("\0 ")
    return "".join(c if c.isprintable() else "?" for c in text)
