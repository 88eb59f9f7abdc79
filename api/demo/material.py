"""The DICOM objects of the demonstration: those that pydicom brings along, and a long series made of one of them."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom import data
from pydicom.uid import generate_uid

#: Objects of the series that the long export sends.
LONG = 400

#: 9.8 kB, uncompressed.
_TEMPLATE = "MR_small.dcm"


def bundled() -> Path:
    """Return the folder of pydicom's own test files; nothing is downloaded."""
    return Path(str(data.__file__)).parent / "test_files"


def make_long_series(folder: Path) -> str:
    """Write a series of small objects into a new folder; returns its Study Instance UID."""
    folder.mkdir()
    ds = pydicom.dcmread(bundled() / _TEMPLATE)
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    for number in range(1, LONG + 1):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber = number
        ds.save_as(folder / f"{number:04}.dcm")
    return str(ds.StudyInstanceUID)
