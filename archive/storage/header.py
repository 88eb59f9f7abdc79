"""What the index keeps of an object's header, read from a DICOM file without its pixels."""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time
from functools import lru_cache
from io import BytesIO
from typing import BinaryIO, NamedTuple

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError

from archive import errors
from archive.storage import elements

# It logs values that break a rule, patients' names among them; what matters is raised as well.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?")

#: Longest texts that columns take, so that an index entry fits a page also in four-byte letters.
_LONGEST = 512
_LONGEST_ID = 256

_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

#: What pydicom raises for damaged input, besides its own errors.
_DAMAGED = (
    InvalidDicomError,
    BytesLengthException,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_KEYWORDS = [
    "AccessionNumber",
    "InstanceNumber",
    "IssuerOfPatientID",
    "Modality",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "StudyDate",
    "StudyDescription",
    "StudyID",
    "StudyInstanceUID",
    "StudyTime",
]

#: By tag, in the order of a data set.
_TAGS = {number: keyword for keyword in sorted(_KEYWORDS) if (number := tag_for_keyword(keyword)) is not None}
_CHARACTER_SET = 0x00080005
_WANTED = frozenset({*_TAGS, _CHARACTER_SET})
_LAST = max(_TAGS)
_NUMBERS = {"InstanceNumber", "SeriesNumber"}
_WHOLE = re.compile(r"([+-]?[0-9]+)?")
#: What makes a value more than one, or of several groups, or of another character set.
_NOT_PLAIN = re.compile(rb"[\\=\x1b]")

#: Warnings are switched off for the whole process while pydicom decodes, so only one thread may do that.
_decoding = threading.Lock()


class Header(NamedTuple):
    """The attributes of one object that are indexed; None where absent or not readable."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    patient_id: str
    issuer: str
    patient_name: str | None = None
    birth_date: date | None = None
    sex: str | None = None
    study_date: date | None = None
    study_time: time | None = None
    accession_number: str | None = None
    study_id: str | None = None
    study_description: str | None = None
    referring_physician: str | None = None
    modality: str | None = None
    series_number: int | None = None
    series_description: str | None = None
    instance_number: int | None = None


def read(file: BinaryIO) -> Header:
    """Read the header of a DICOM file.

    Raises:
        NotStorable: no Part 10 file, damaged, or without one of the UIDs that an index needs.
        OSError: the file could not be read.

    Source: PS3.10 section 7.1
    """
    with _without_warnings():
        try:
            ds = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_KEYWORDS))
        except InvalidDicomError as exc:
            raise errors.NotStorable("not DICOM Part 10 (no DICM prefix behind a preamble)") from exc
        except _DAMAGED as exc:
            raise errors.NotStorable(f"damaged DICOM file: {type(exc).__name__}: {one_line(str(exc))}") from exc
        return of_dataset(ds, _text(ds.file_meta, "TransferSyntaxUID"))


def of_prefix(prefix: bytes, transfer_syntax_uid: str, *, is_whole: bool = False) -> Header | None:
    """Read the header from the first bytes of a data set, wherever they end; None: more bytes are needed.

    Safe in threads.

    Args:
        prefix: begins with the first element; no preamble, no File Meta Information.
        transfer_syntax_uid: in which it is encoded.
        is_whole: no more bytes will come.

    Raises:
        NotStorable: damaged, or without one of the UIDs that an index needs.
    """
    try:
        found = elements.pick(prefix, transfer_syntax_uid, _WANTED, _LAST)
    except elements.Damaged as exc:
        raise errors.NotStorable(f"damaged data set: {exc}") from exc
    if not (found.is_complete or is_whole):
        return None
    texts = _plain_texts(found.elements)
    if texts is None:
        with _without_warnings():
            return of_dataset(_decoded(found.elements), transfer_syntax_uid)
    return _of_texts(texts, transfer_syntax_uid)


def of_dataset(ds: pydicom.Dataset, transfer_syntax_uid: str | None) -> Header:
    """Pick the indexed attributes out of a data set.

    Raises:
        NotStorable: one of the UIDs that an index needs is missing or not valid.
    """
    media_class = _text(getattr(ds, "file_meta", pydicom.Dataset()), "MediaStorageSOPClassUID")
    if media_class == _MEDIA_DIRECTORY:
        raise errors.NotStorable("a DICOMDIR, which lists objects but is none")
    return _of_texts({keyword: _text(ds, keyword) for keyword in _KEYWORDS}, transfer_syntax_uid)


def one_line(text: str) -> str:
    """Return `text` without line ends and control characters, at most 200 characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


def _of_texts(texts: Mapping[str, str | None], transfer_syntax_uid: str | None) -> Header:
    return Header(
        study_uid=_uid(texts, "StudyInstanceUID"),
        series_uid=_uid(texts, "SeriesInstanceUID"),
        sop_uid=_uid(texts, "SOPInstanceUID"),
        sop_class_uid=_uid(texts, "SOPClassUID"),
        transfer_syntax_uid=_checked("TransferSyntaxUID", transfer_syntax_uid),
        patient_id=(texts.get("PatientID") or "")[:_LONGEST_ID],
        issuer=(texts.get("IssuerOfPatientID") or "")[:_LONGEST_ID],
        patient_name=texts.get("PatientName"),
        birth_date=_date(texts.get("PatientBirthDate")),
        sex=texts.get("PatientSex"),
        study_date=_date(texts.get("StudyDate")),
        study_time=_time(texts.get("StudyTime")),
        accession_number=texts.get("AccessionNumber"),
        study_id=texts.get("StudyID"),
        study_description=texts.get("StudyDescription"),
        referring_physician=texts.get("ReferringPhysicianName"),
        modality=texts.get("Modality"),
        series_number=_whole(texts.get("SeriesNumber")),
        series_description=texts.get("SeriesDescription"),
        instance_number=_whole(texts.get("InstanceNumber")),
    )


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore that senders break rules in ways that do not concern the index; pydicom would report each of them."""
    with _decoding, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _plain_texts(found: Mapping[int, elements.Raw]) -> dict[str, str | None] | None:
    """Return the texts of values that need no decoding: one for each element, ASCII, of whole numbers; else None."""
    texts: dict[str, str | None] = {}
    for tag, keyword in _TAGS.items():
        raw = found.get(tag)
        if raw is None:
            continue
        if not raw.value.isascii() or _NOT_PLAIN.search(raw.value):
            return None
        text = raw.value.decode("ascii").replace("\0", "").strip()
        if keyword in _NUMBERS and not _WHOLE.fullmatch(text):
            return None
        texts[keyword] = text[:_LONGEST] or None
    return texts


def _decoded(found: Mapping[int, elements.Raw]) -> pydicom.Dataset:
    """Have the values decoded, by the character set of the data set and the VRs of the dictionary."""
    encoded = b"".join(
        struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(found[tag].value)) + found[tag].value for tag in sorted(found)
    )
    try:
        return pydicom.filereader.read_dataset(BytesIO(encoded), is_implicit_VR=True, is_little_endian=True)
    except _DAMAGED as exc:
        raise errors.NotStorable(f"damaged data set: {type(exc).__name__}: {one_line(str(exc))}") from exc


def _text(ds: pydicom.Dataset, keyword: str) -> str | None:
    """Return a value as clean text, the values of a multi-valued one joined by a backslash."""
    try:
        value = ds.get(keyword)
        values = value if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
        joined = "\\".join(str(v) for v in values if v is not None)
    except _DAMAGED:
        return None
    # PostgreSQL takes no NUL, and UTF-8 no half surrogates.
    clean = joined.replace("\0", "").encode("utf-8", "replace").decode("utf-8").strip()
    return clean[:_LONGEST] or None


def _uid(texts: Mapping[str, str | None], keyword: str) -> str:
    return _checked(keyword, texts.get(keyword))


def _checked(keyword: str, uid: str | None) -> str:
    """Return a UID that is one. Leading zeros, which PS3.5 9.1 forbids, are common and harmless here."""
    if uid is None:
        raise errors.NotStorable(f"no {keyword}")
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise errors.NotStorable(f"{keyword} {one_line(uid)!r} is not a UID of at most 64 characters")
    return uid


@lru_cache(maxsize=256)
def _date(text: str | None) -> date | None:
    """Parse a DA value, also in the form with dots of ACR-NEMA. Source: PS3.5 6.2."""
    digits = (text or "").replace(".", "").replace("-", "")
    try:
        return datetime.strptime(digits, "%Y%m%d").date()  # noqa: DTZ007  a date has no zone
    except ValueError:
        return None


@lru_cache(maxsize=256)
def _time(text: str | None) -> time | None:
    """Parse a TM value, also with colons; a leap second becomes :59. Source: PS3.5 6.2."""
    match = _TIME.fullmatch(text or "")
    if match is None:
        return None
    hour, minute, second, fraction = match.groups()
    try:
        return time(int(hour), int(minute or 0), min(int(second or 0), 59), int((fraction or "0").ljust(6, "0")))
    except ValueError:
        return None


def _whole(text: str | None) -> int | None:
    """Parse an IS value that fits a column of 32 bits."""
    try:
        number = int(text or "")
    except ValueError:
        return None
    return number if -(2**31) <= number < 2**31 else None
