"""What the archive of a cluster has stored, by its index and from its disks."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select, text

from archive import db, model
from tests.lab import part10

_TABLES = "patient, study, series, instance, file, study_on_file_system, bytes_received, unlink"


def files() -> dict[str, Path]:
    """Return the file of each object, by SOP Instance UID."""
    wanted = (
        select(model.Instance.sop_uid, model.FileSystem.path, model.File.path)
        .join(model.File, model.File.instance_id == model.Instance.id)
        .join(model.FileSystem, model.FileSystem.id == model.File.file_system_id)
    )
    with db.transaction() as session:
        return {sop_uid: Path(root, path) for sop_uid, root, path in session.execute(wanted)}


def data_sets() -> dict[str, bytes]:
    """Return the bytes of the data set of each object that is stored, by SOP Instance UID."""
    return {sop_uid: part10.data_set(path) for sop_uid, path in files().items()}


def studies() -> list[str]:
    """Return the Study Instance UIDs."""
    with db.transaction() as session:
        return list(session.scalars(select(model.Study.study_uid).order_by(model.Study.id)))


def received() -> int:
    """Return how many objects the books say were received from outside."""
    with db.transaction() as session:
        return int(session.scalar(select(func.coalesce(func.sum(model.BytesReceived.num_objects), 0))) or 0)


def is_settled() -> bool:
    """Tell whether no association holds a series open, nor names that it has reserved."""
    with db.transaction() as session:
        open_series = select(model.Series.id).where(model.Series.state == model.SeriesState.RECEIVING)
        reserved = select(model.Unlink.id).where(model.Unlink.reason == model.UnlinkReason.STORING)
        return all(session.scalar(found.limit(1)) is None for found in (open_series, reserved))


def forget() -> None:
    """Empty index, ledgers and disks, while nobody stores or reads; file systems stay."""
    paths = files()
    with db.transaction() as session:
        session.execute(text(f"TRUNCATE {_TABLES} CASCADE"))
    for path in paths.values():
        path.unlink()
