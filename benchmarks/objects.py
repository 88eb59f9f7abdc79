"""Objects to send, made up: a real header, random pixels, UIDs that nobody has seen."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pydicom
from pydicom import data
from pydicom.uid import generate_uid

#: Pixels in a row, and rows, of two bytes each: by size of the file, about.
SIDES: Mapping[str, int] = {"525 KB": 512, "9 KB": 64}

#: 9.8 kB, uncompressed, from a scanner.
_TEMPLATE = Path(str(data.__file__)).parent / "test_files" / "MR_small.dcm"


def write(folders: list[Path], objects: int, side: int) -> list[str]:
    """Write a study of so many objects, in two series, into each of these new folders; returns the UIDs."""
    ds = pydicom.dcmread(_TEMPLATE)
    ds.Rows = ds.Columns = side
    studies = []
    for folder in folders:
        folder.mkdir(parents=True)
        ds.StudyInstanceUID = generate_uid()
        series = [generate_uid(), generate_uid()]
        for number in range(objects):
            ds.SeriesInstanceUID = series[number * 2 // objects]
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            ds.InstanceNumber = number + 1
            ds.PixelData = random.randbytes(side * side * 2)
            ds.save_as(folder / f"{number:04}.dcm")
        studies.append(str(ds.StudyInstanceUID))
    return studies
