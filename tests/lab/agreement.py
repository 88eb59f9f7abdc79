"""Whether disk, index, counters, ledger and unlink list of an archive tell the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from archive import db, model
from archive.storage import files, unlinking
from archive.storage.health import MARKER


def disagreements() -> list[str]:
    """Return what does not agree, one line each. Files on the unlink list may be there or not."""
    with db.transaction() as session:
        found = list(_ledger(session))
        for file_system in session.scalars(select(model.FileSystem)):
            found += _disk(session, file_system)
        for study in session.scalars(select(model.Study)):
            found += _counters(session, study)
        return found


def after_sweep(device_name: str) -> list[str]:
    """Clear up after writers and deleters of a device that have died, none runs; return what does not agree then.

    Nothing may be left then to be unlinked, and no file that no row names.
    """
    swept = sweep_at_once(device_name)
    found = disagreements()
    found += [f"{swept.failed} files could not be unlinked"] if swept.failed else []
    found += swept.skipped
    with db.transaction() as session:
        owned = select(model.FileSystem.id).where(model.FileSystem.owner_device == device_name)
        left = session.scalars(select(model.Unlink).where(model.Unlink.file_system_id.in_(owned)))
        return found + [f"still to be unlinked ({entry.reason}): {entry.path}" for entry in left]


def sweep_at_once(device_name: str) -> unlinking.Cleared:
    """Sweep as if files in the making had waited for their writer for as long as they may."""
    entry = model.Unlink
    with db.transaction() as session:
        # Those that a writer is about to take off the list stay his.
        in_the_making = select(entry.id).where(entry.reason == model.UnlinkReason.STORING)
        waiting = in_the_making.with_for_update(skip_locked=True)
        session.execute(update(entry).where(entry.id.in_(waiting)).values(next_attempt_at=func.now()))
    return unlinking.clear_unfinished(device_name)


def _disk(session: Session, file_system: model.FileSystem) -> Iterator[str]:
    root = Path(file_system.path)
    on_disk = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {MARKER}
    rows = session.scalars(select(model.File).where(model.File.file_system_id == file_system.id)).all()
    problems = (files.verify(root / row.path, row.size_bytes, row.sha256) for row in rows)
    yield from filter(None, problems)
    listed = set(session.scalars(select(model.Unlink.path).where(model.Unlink.file_system_id == file_system.id)))
    indexed = {row.path for row in rows}
    yield from (f"stray {path}" for path in on_disk - indexed if path.removesuffix(files.PART) not in listed)
    yield from (f"kept and to be unlinked: {path}" for path in indexed & listed)


def _ledger(session: Session) -> Iterator[str]:
    """A study has a ledger row where files of it lie, and nowhere else."""
    of_files = (
        select(model.Series.study_id, model.File.file_system_id)
        .join(model.Instance, model.Instance.series_id == model.Series.id)
        .join(model.File, model.File.instance_id == model.Instance.id)
        .distinct()
    )
    lies = {(study, file_system) for study, file_system in session.execute(of_files)}
    ledger = model.StudyOnFileSystem
    booked = {(row.study_id, row.file_system_id) for row in session.scalars(select(ledger))}
    yield from (f"study {study} lies on file system {where}, not in the ledger" for study, where in lies - booked)
    yield from (f"study {study} has no file on file system {where} of the ledger" for study, where in booked - lies)


def _counters(session: Session, study: model.Study) -> Iterator[str]:
    per_series = (
        select(model.Series, func.count(model.Instance.id))
        .join(model.Instance, model.Instance.series_id == model.Series.id, isouter=True)
        .where(model.Series.study_id == study.id)
        .group_by(model.Series.id)
    )
    counted = dict(session.execute(per_series).all())
    for series, number in counted.items():
        if series.num_instances != number:
            yield f"series {series.series_uid} counts {series.num_instances} objects, has {number}"
    says = (study.num_series, study.num_instances, study.modalities)
    is_so = (len(counted), sum(counted.values()), sorted({one.modality for one in counted if one.modality}))
    if says != is_so:
        yield f"study {study.study_uid} says {says}, is {is_so}"
