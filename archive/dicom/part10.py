"""Where the data set of a DICOM file begins: behind preamble, prefix and File Meta Information."""

from __future__ import annotations

import struct
from typing import BinaryIO

from archive import errors
from archive.storage import elements

#: Preamble and prefix.
_BEGIN = 132
_META_GROUP = b"\2\0"


def data_set_offset(file: BinaryIO) -> int:
    """Return at which byte the data set of a file begins; the file is left there.

    Raises:
        SourceError: it is no file of PS3.10, or ends too early.

    Source: PS3.10 7.1; the File Meta Information is in Explicit VR Little Endian.
    """
    file.seek(0)
    if file.read(_BEGIN)[-4:] != b"DICM":
        raise errors.SourceError("no DICM prefix behind a preamble: not a DICOM file")
    at = _BEGIN
    while (head := file.read(8))[:2] == _META_GROUP:
        at += _length_of_element(head, file)
        file.seek(at)
    file.seek(at)
    return at


def _length_of_element(head: bytes, file: BinaryIO) -> int:
    """Return the length in bytes of an element whose first 8 bytes were read."""
    is_long = head[4:6] in elements.LONG
    length_bytes = file.read(4) if is_long else head[6:8]
    if len(head) < 8 or (is_long and len(length_bytes) < 4):
        raise errors.SourceError("the File Meta Information ends in the middle of an element")
    length = int.from_bytes(length_bytes, "little") if is_long else struct.unpack("<H", length_bytes)[0]
    if length == elements.UNDEFINED:
        raise errors.SourceError("an element of the File Meta Information has no length")
    return int(length) + (12 if is_long else 8)
