"""Where a file's data set begins."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from pydicom import data

from archive import errors
from archive.dicom import part10
from archive.storage import header

BUNDLED = Path(str(data.__file__)).parent / "test_files"


def storable() -> list[Path]:
    found = []
    for path in sorted(BUNDLED.rglob("*.dcm")):
        try:
            with path.open("rb") as file:
                header.read(file)
        except errors.NotStorable:
            continue
        found.append(path)
    return found


@pytest.mark.parametrize("path", storable(), ids=lambda path: path.name)
def test_offset_is_where_pydicom_goes_on_after_the_meta_information(path: Path) -> None:
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        expected = file.tell()

        assert part10.data_set_offset(file) == expected
        assert file.tell() == expected


@pytest.mark.parametrize("content", [b"", b"x" * 131, bytes(128) + b"DICN"])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(errors.SourceError, match="not a DICOM file"):
        part10.data_set_offset(io.BytesIO(content))


@pytest.mark.parametrize("rest", [b"\2\0\1\0", b"\2\0\1\0OB\0\0\1", b"\2\0\1\0OB\0\0\xff\xff\xff\xff"])
def test_meta_information_that_is_cut_off_is_refused(rest: bytes) -> None:
    with pytest.raises(errors.SourceError, match="File Meta Information"):
        part10.data_set_offset(io.BytesIO(bytes(128) + b"DICM" + rest))
