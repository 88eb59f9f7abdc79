"""Objects to store, and what the tables of the archive hold."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import func, select

from archive import db, model
from archive.storage import files, header, ingest
from config.device import Device, FileSystem, FileSystemGroup
from tests.lab.agreement import disagreements, sweep_at_once

__all__ = [
    "SAMPLES",
    "archive_a",
    "count_of",
    "disagreements",
    "incoming",
    "sweep_at_once",
    "unlink_list",
    "write_object",
]

SAMPLES = Path(pydicom.__file__).parent / "data"


def archive_a(*, shared_with: tuple[str, ...] = ("archive-b",)) -> Device:
    """A device with an online group of two file systems and a nearline group of its own."""
    online = FileSystemGroup(
        "ONLINE_STORAGE", (FileSystem("online-1", shared_with), FileSystem("online-2")), "ARCHIVE_A"
    )
    nearline = FileSystemGroup("NEARLINE_STORAGE", (FileSystem("nearline"),), "ARCHIVE_A", "NEARLINE")
    return Device("archive-a", is_ours=True, file_system_groups={g.id: g for g in (online, nearline)})


def write_object(
    path: Path, study: str = "1.2.1", series: str = "1.2.1.1", sop: str = "1.2.1.1.1", **values: object
) -> Path:
    """Write a small DICOM file."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, series, sop
    for keyword, value in {"PatientID": "P1", "Modality": "CT", **values}.items():
        setattr(ds, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def incoming(path: Path) -> ingest.Incoming:
    """Offer a file for storing."""
    with path.open("rb") as file:
        return ingest.Incoming(str(path), header.read(file), partial(files.chunks_of, path))


def unlink_list() -> list[tuple[str, str]]:
    """Return reason and path of all entries."""
    with db.transaction() as session:
        return [(e.reason.value, e.path) for e in session.scalars(select(model.Unlink))]


def count_of(table: type[db.Base]) -> int:
    """Return the number of rows of a table."""
    with db.transaction() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0
