"""The header from the first bytes of a data set is that of the whole file, wherever they end."""

from __future__ import annotations

import struct
import threading
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive import errors
from archive.dicom import part10
from archive.storage import elements, header

EXPLICIT = "1.2.840.10008.1.2.1"
UIDS = {0x00080016: "1.2.3", 0x00080018: "1.2.4", 0x0020000D: "1.2.5", 0x0020000E: "1.2.6"}


@cache
def samples() -> dict[str, tuple[header.Header, bytes]]:
    """All storable samples of pydicom by name: header of the whole file, and the bytes of the data set."""
    found = {}
    for path in sorted(Path(pydicom.__file__).parent.joinpath("data").rglob("*")):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            try:
                whole = header.read(file)
            except errors.NotStorable:
                continue
            part10.data_set_offset(file)
            found[path.name] = (whole, file.read())
    return found


def element(tag: int, vr: str, value: bytes, order: str = "<") -> bytes:
    value += b" " * (len(value) % 2)
    return struct.pack(f"{order}HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


def sequence(content: bytes, vr: str = "SQ", tag: int = 0x00081140) -> bytes:
    """Sequence and item of undefined length."""
    undefined = 0xFFFFFFFF
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    head = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, undefined)
    return head + struct.pack("<HHI", 0xFFFE, 0xE000, undefined) + content + end


def data_set(*more: bytes) -> bytes:
    """A data set with the UIDs, other elements between class and study, and something behind."""
    first, last = (
        [element(tag, "UI", uid.encode()) for tag, uid in list(UIDS.items())[a:b]] for a, b in ((0, 2), (2, 4))
    )
    return b"".join([*first, *more, *last, element(0x00280010, "US", b"\0\1")])


def test_every_sample_has_the_header_of_its_file() -> None:
    assert len(samples()) > 150
    for name, (whole, content) in samples().items():
        assert header.of_prefix(content, whole.transfer_syntax_uid, is_whole=True) == whole, name


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_prefix_gives_the_same_header_or_asks_for_more(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(samples())))
    whole, content = samples()[name]
    end = data.draw(st.integers(0, min(len(content), 20_000)))

    assert header.of_prefix(content[:end], whole.transfer_syntax_uid) in (None, whole)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "rtplan.dcm", "test-SR.dcm"]
)
def test_once_there_is_enough_more_changes_nothing(name: str) -> None:
    whole, content = samples()[name]

    found = [header.of_prefix(content[:end], whole.transfer_syntax_uid) for end in range(min(len(content), 6000))]

    first = found.index(whole)
    assert set(found[:first]) <= {None}
    assert set(found[first:]) == {whole}


def test_sequences_without_lengths_are_skipped_also_inside_each_other() -> None:
    inside = element(0x00080018, "UI", b"9.9") + sequence(element(0x0020000D, "UI", b"9.9"))
    # Of a VR that the sender did not know: no VRs inside. Source: PS3.5 6.2.2
    unknown = sequence(struct.pack("<HHI", 0x0008, 0x1150, 4) + b"9.9\0", "UN")
    content = data_set(sequence(inside), unknown)

    found = [header.of_prefix(content[:end], EXPLICIT) for end in range(len(content) + 1)]

    assert {(one.study_uid, one.sop_uid) for one in found if one} == {("1.2.5", "1.2.4")}
    assert found[-1] is not None


def test_sender_that_leaves_out_the_vrs_is_understood() -> None:
    content = b"".join(
        struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(uid) + 1) + uid.encode() + b"\0" for tag, uid in UIDS.items()
    )

    found = header.of_prefix(content, EXPLICIT, is_whole=True)

    assert found is not None
    assert (found.study_uid, found.sop_class_uid) == ("1.2.5", "1.2.3")


@pytest.mark.parametrize(
    ("content", "syntax", "said"),
    [
        (data_set()[:40], EXPLICIT, "no StudyInstanceUID"),
        (b"", EXPLICIT, "no StudyInstanceUID"),
        (b"\xff" * 100, elements.DEFLATED, "not deflated"),
        (b"\x00\x01garbage" * 20, EXPLICIT, "no StudyInstanceUID"),
        (data_set().replace(b"1.2.5", b"1.2.x"), EXPLICIT, "'1.2.x' is not a UID"),
        (sequence(b"").replace(b"\xfe\xff\x00\xe0", b"\x08\x00\x00\x00", 1), EXPLICIT, r"\(0008,0000\) where an item"),
        (sequence(b"") [:12] + (struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + sequence(b"")[:12]) * 70, EXPLICIT,
         "more than 64 deep"),
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_refused_with_the_reason(content: bytes, syntax: str, said: str) -> None:
    with pytest.raises(errors.NotStorable, match=said):
        header.of_prefix(content, syntax, is_whole=True)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([EXPLICIT, elements.IMPLICIT, elements.BIG_ENDIAN, elements.DEFLATED]))
def test_garbage_is_refused_and_nothing_else_raised(content: bytes, syntax: str) -> None:
    with pytest.raises(errors.NotStorable):
        header.of_prefix(content, syntax, is_whole=True)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["LO", "PN", "SH", "IS", "DA", "TM"]), st.text(st.characters(max_codepoint=255), max_size=20))
def test_texts_are_those_that_pydicom_decodes(vr: str, text: str) -> None:
    tag = {"LO": 0x00081030, "PN": 0x00100010, "SH": 0x00080050, "IS": 0x00200013, "DA": 0x00080020, "TM": 0x00080030}[
        vr
    ]
    value = element(tag, vr, text.encode("latin-1"))
    elements_of = sorted(
        [element(0x00080005, "CS", b"ISO_IR 100"), value, *_uids()], key=lambda e: struct.unpack("<HH", e[:4])
    )
    content = b"".join(elements_of)
    meta = element(0x00020010, "UI", EXPLICIT.encode() + b"\0")

    expected = header.read(BytesIO(b"\0" * 128 + b"DICM" + meta + content))

    assert header.of_prefix(content, EXPLICIT, is_whole=True) == expected


def _uids() -> list[bytes]:
    return [element(tag, "UI", uid.encode() + b"\0") for tag, uid in UIDS.items()]


def test_bomb_is_not_inflated_whole_and_refused() -> None:
    packed = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    content = packed.compress(data_set(struct.pack("<HH2sHI", 9, 0x1001, b"OB", 0, 1 << 30)) + bytes(100 << 20))

    with pytest.raises(errors.NotStorable, match="does not end within the first 16777216 bytes"):
        header.of_prefix(content, elements.DEFLATED)


def test_threads_decode_without_a_warning() -> None:
    whole, content = samples()["chrH31.dcm"]
    found = []

    def decode() -> None:
        found.extend(header.of_prefix(content, whole.transfer_syntax_uid, is_whole=True) for _ in range(20))

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [whole] * 80
