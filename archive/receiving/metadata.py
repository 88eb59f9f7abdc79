"""What stands before the data set in a file of ours: preamble and File Meta Information. Source: PS3.10 7.1."""

from __future__ import annotations

import struct

from archive import dicom

_BEGIN = bytes(128) + b"DICM"


def of(sop_class_uid: str, sop_uid: str, transfer_syntax_uid: str, source: str) -> bytes:
    """Return the bytes before the data set of an object that an AE sent."""
    elements = b"".join(
        (
            struct.pack("<HH2sHIH", 2, 0x0001, b"OB", 0, 2, 0x0100),
            _text(0x0002, "UI", sop_class_uid),
            _text(0x0003, "UI", sop_uid),
            _text(0x0010, "UI", transfer_syntax_uid),
            _text(0x0012, "UI", dicom.IMPLEMENTATION_CLASS_UID),
            _text(0x0013, "SH", dicom.IMPLEMENTATION_VERSION_NAME),
            _text(0x0016, "AE", source),
        )
    )
    return _BEGIN + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(elements)) + elements


def _text(number: int, vr: str, value: str) -> bytes:
    encoded = value.encode("ascii", "replace")
    encoded += (b"\0" if vr == "UI" else b" ") * (len(encoded) % 2)
    return struct.pack("<HH2sH", 2, number, vr.encode(), len(encoded)) + encoded
