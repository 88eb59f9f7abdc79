"""PDUs and command sets from bare bytes, for a peer that shares no code with ours."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

#: What it says it takes in a PDU.
_MAX_LENGTH = 16384
_AC = 2


def number(value: bytes) -> int:
    return int.from_bytes(value, "little")


def elements(command: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(command):
        _, element, length = struct.unpack_from("<HHI", command, at)
        yield element, command[at + 8 : at + 8 + length]
        at += 8 + length


def items(content: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at < len(content):
        kind, length = struct.unpack_from(">BxH", content, at)
        yield kind, content[at + 4 : at + 4 + length]
        at += 4 + length


def asked_contexts(request: bytes) -> Iterator[tuple[int, str, str]]:
    for kind, item in items(request, 68):
        if kind == 0x20:
            syntaxes = {sub: value.rstrip(b"\0").decode() for sub, value in items(item, 4)}
            yield item[0], syntaxes[0x30], syntaxes[0x40]


def acceptance(request: bytes, asked: list[tuple[int, str, str]], result_of: Callable[[str, str], int]) -> bytes:
    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(content)) + content

    contexts = b"".join(
        item(0x21, struct.pack("BxBx", number, result_of(sop_class, syntax)) + item(0x40, syntax.encode()))
        for number, sop_class, syntax in asked
    )
    user = item(0x50, item(0x51, struct.pack(">I", _MAX_LENGTH)) + item(0x52, b"1.2.3.4"))
    body = request[:68] + item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + user
    return struct.pack(">BxI", _AC, len(body)) + body
