"""DICOM files as others see them: the bytes of their data set, and the samples that pydicom brings along."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import data
from pydicom.errors import InvalidDicomError

#: Preamble and prefix, then the element (0002,0000) that tells the length of what follows it.
_PREFIX_END = 132
_FIRST_ELEMENT_END = 144

_KEYWORDS = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
#: Ends in the middle of its header: dcmtk and Orthanc refuse to read it.
_DAMAGED = ("SC_rgb_jpeg.dcm",)


@dataclass(frozen=True, slots=True)
class Sample:
    """A file that can be stored."""

    path: Path
    sop_uid: str
    transfer_syntax_uid: str


def data_set(path: Path) -> bytes:
    """Return the bytes of a file's data set, all behind its File Meta Information. Source: PS3.10 7.1."""
    content = path.read_bytes()
    tag, length = struct.unpack_from("<4s4xI", content, _PREFIX_END)
    assert content[128:_PREFIX_END] + tag == b"DICM\2\0\0\0", f"{path} is not a file of PS3.10 with a group length"
    return content[_FIRST_ELEMENT_END + length :]


def as_sent(data_set: bytes) -> bytes:
    """Return a data set as it goes over the network: a deflated one of odd length with a zero byte behind it."""
    return data_set + b"\0" * (len(data_set) % 2)


def sop_uid(path: Path) -> str:
    """Return the SOP Instance UID in a file's data set."""
    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)


def samples() -> list[Sample]:
    """Return the storable files among pydicom's; several have the same SOP Instance UID."""
    paths = sorted(path for path in Path(str(data.__file__)).parent.rglob("*") if path.is_file())
    return [found for path in paths if path.name not in _DAMAGED and (found := _sample(path)) is not None]


def first_of_each(found: list[Sample]) -> dict[str, Sample]:
    """Return the first sample of each SOP Instance UID: what an archive keeps of them."""
    return {sample.sop_uid: sample for sample in reversed(found)}


def _sample(path: Path) -> Sample | None:
    try:
        ds = pydicom.dcmread(path, specific_tags=list(_KEYWORDS), stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError, EOFError):
        return None
    if not all(ds.get(keyword) for keyword in _KEYWORDS):
        return None
    return Sample(path, str(ds.SOPInstanceUID), str(ds.file_meta.TransferSyntaxUID))
