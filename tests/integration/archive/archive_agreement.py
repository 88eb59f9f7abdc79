"""Objects to store, and a look at whether disk, index and unlink list agree."""

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


def disagreements() -> list[str]:
    """Return what does not agree between disk, index, counters and unlink list."""
    with db.transaction() as session:
        found = []
        for file_system in session.scalars(select(model.FileSystem)):
            root = Path(file_system.path)
            on_disk = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
            on_disk.discard(".arcfleet-fs")
            rows = session.scalars(select(model.File).where(model.File.file_system_id == file_system.id)).all()
            for row in rows:
                problem = files.verify(root / row.path, row.size_bytes, row.sha256)
                found += [problem] if problem else []
            listed = set(
                session.scalars(select(model.Unlink.path).where(model.Unlink.file_system_id == file_system.id))
            )
            indexed = {row.path for row in rows}
            found += [f"stray {p}" for p in on_disk - indexed if p.removesuffix(files.PART) not in listed]
            found += [f"kept and to be unlinked: {p}" for p in indexed & listed]
        per_series = select(model.Instance.series_id, func.count()).group_by(model.Instance.series_id)
        instances = dict(session.execute(per_series).all())
        for study in session.scalars(select(model.Study)):
            series = session.scalars(select(model.Series).where(model.Series.study_id == study.id)).all()
            found += [
                f"series {s.series_uid} counts {s.num_instances}, has {instances.get(s.id)}"
                for s in series
                if s.num_instances != instances.get(s.id)
            ]
            counted = (study.num_series, study.num_instances, study.modalities)
            actual = (
                len(series),
                sum(s.num_instances for s in series),
                sorted({s.modality for s in series if s.modality}),
            )
            found += [f"study {study.study_uid} says {counted}, is {actual}"] if counted != actual else []
        return found


def unlink_list() -> list[tuple[str, str]]:
    """Return reason and path of all entries."""
    with db.transaction() as session:
        return [(e.reason.value, e.path) for e in session.scalars(select(model.Unlink))]


def count_of(table: type[db.Base]) -> int:
    """Return the number of rows of a table."""
    with db.transaction() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0
