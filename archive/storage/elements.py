"""Elements of a data set picked from its first bytes, however many these are: nothing is decoded, nothing warned of.

Source: PS3.5 section 7 (the encoding of a data set), 7.5 (sequences), A.1 to A.5 (transfer syntaxes).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from typing import NamedTuple

#: Transfer syntaxes whose encoding differs from Explicit VR Little Endian.
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
#: These are deflated as well: JPIP Referenced Deflate, JPIP HTJ2K Referenced Deflate.
_DEFLATED = {DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}

#: Bytes that a deflated data set may have before its header ends.
_MOST_INFLATED = 16 << 20
#: Value representations whose length has four bytes. Source: PS3.5 7.1.2.
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
#: Those of which it has two.
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
#: Length of an element that ends with a delimiter.
UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
#: Sequences in sequences, deeper than any object of use.
_DEEPEST = 64


class Damaged(Exception):
    """The bytes are no data set of the transfer syntax; the text says why."""


class _Short(Exception):
    """The bytes end before the element does."""


class Raw(NamedTuple):
    """A top-level element as it is encoded."""

    #: Two letters; None: the transfer syntax has none.
    vr: str | None
    value: bytes


class Picked(NamedTuple):
    """What the first bytes of a data set hold."""

    #: By tag, group number first.
    elements: dict[int, Raw]
    #: An element behind the wanted ones was reached, or the bytes do not end within one.
    is_complete: bool
    is_little_endian: bool


def pick(prefix: bytes, transfer_syntax_uid: str, wanted: Collection[int], last: int) -> Picked:
    """Pick the wanted top-level elements up to the tag `last` from the first bytes of a data set.

    Elements are in the order of their tags; behind one that is beyond `last` nothing is looked at.
    Where the encoding is not that of the transfer syntax, as some senders have it, the one found is taken.

    Raises:
        Damaged: the bytes cannot be of such a data set, however they go on.
    """
    is_little = transfer_syntax_uid != BIG_ENDIAN
    data = _inflated(prefix) if is_deflated(transfer_syntax_uid) else prefix
    walk = _Walk(data, is_little, _is_implicit(data, transfer_syntax_uid == IMPLICIT))
    elements: dict[int, Raw] = {}
    at = 0
    try:
        while True:
            tag, vr, start, length = walk.plain(at) or walk.head(at)
            if tag > last:
                return Picked(elements, True, is_little)
            at = start + length if length != UNDEFINED else walk.end(start, length, vr)
            if tag in wanted and length != UNDEFINED:
                if at > len(data):
                    break
                elements[tag] = Raw(vr.decode("ascii") if vr else None, data[start:at])
    except _Short:
        pass
    if data is not prefix and len(data) == _MOST_INFLATED:
        raise Damaged(f"its header does not end within the first {_MOST_INFLATED} bytes of what is deflated")
    return Picked(elements, False, is_little)


def is_deflated(transfer_syntax_uid: str) -> bool:
    """Tell whether a few bytes of this transfer syntax may be very many."""
    return transfer_syntax_uid in _DEFLATED


def _inflated(prefix: bytes) -> bytes:
    """Inflate as much as is there. Source: PS3.5 A.5."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(prefix, _MOST_INFLATED)
    except zlib.error as exc:
        raise Damaged(f"not deflated as its transfer syntax says ({exc})") from exc


def _is_implicit(data: bytes, is_said: bool) -> bool:
    """Tell whether the elements have no VR, by the first one: no length looks like two capital letters."""
    vr = data[4:6]
    return is_said if len(vr) < 2 else not _is_vr(vr)


def _is_vr(two: bytes) -> bool:
    return 0x40 < two[0] < 0x5B and 0x40 < two[1] < 0x5B


class _Walk:
    """Goes from element to element in an encoding."""

    def __init__(self, data: bytes, is_little: bool, is_implicit: bool) -> None:
        order = "<" if is_little else ">"
        self._data = data
        self._is_implicit = is_implicit
        self._short = struct.Struct(order + "HH2sH")
        self._four = struct.Struct(order + "I")

    def plain(self, at: int) -> tuple[int, bytes | None, int, int] | None:
        """Return what `head` does of an element as nearly all are, in less time: with VR, and a length of two bytes."""
        if self._is_implicit or at + 8 > len(self._data):
            return None
        group, number, vr, length = self._short.unpack_from(self._data, at)
        return (group << 16 | number, vr, at + 8, length) if vr in _SHORT and group != 0xFFFE else None

    def head(self, at: int, *, is_implicit: bool | None = None) -> tuple[int, bytes | None, int, int]:
        """Return tag, VR, begin of the value and its length of the element at `at`."""
        if at + 8 > len(self._data):
            raise _Short
        group, number, vr, length = self._short.unpack_from(self._data, at)
        tag: int = group << 16 | number
        implicit = self._is_implicit if is_implicit is None else is_implicit
        if implicit or group == 0xFFFE or not _is_vr(vr):
            return tag, None, at + 8, self._four.unpack_from(self._data, at + 4)[0]
        if vr not in LONG:
            return tag, vr, at + 8, length
        if at + 12 > len(self._data):
            raise _Short
        return tag, vr, at + 12, self._four.unpack_from(self._data, at + 8)[0]

    def end(self, start: int, length: int, vr: bytes | None, depth: int = 0) -> int:
        """Return where the element behind a value begins; may lie beyond the bytes that are there."""
        if length != UNDEFINED:
            return start + length
        if depth > _DEEPEST:
            raise Damaged(f"sequences in sequences, more than {_DEEPEST} deep")
        # A sequence of a VR that the sender did not know is encoded without VRs. Source: PS3.5 6.2.2.
        implicit = True if vr == b"UN" else None
        at = start
        while True:
            tag, _, at, item_length = self.head(at)
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise Damaged(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) where an item of a sequence is expected")
            at = self._item_end(at, item_length, implicit, depth)

    def _item_end(self, at: int, length: int, implicit: bool | None, depth: int) -> int:
        if length != UNDEFINED:
            return at + length
        while True:
            tag, vr, start, length = self.head(at, is_implicit=implicit)
            if tag == _ITEM_END:
                return start
            at = self.end(start, length, b"UN" if implicit else vr, depth + 1)
