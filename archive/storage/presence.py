"""Whether copies that the index counts as good are still on disk; those that are not are marked, and do not count."""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable
from pathlib import Path

import structlog
from sqlalchemy import Row, select, update
from sqlalchemy.orm import Session

from archive import errors, model
from archive.storage import answers, file_systems, files, health, indexing, rows

_log = structlog.get_logger()


def known(session: Session, sop_uids: Iterable[str], device_name: str) -> dict[str, indexing.Copies]:
    """Return what the index has of these objects, after a look at the files that are within reach of a device.

    One that is not there with its size is marked, its study is locked then. Of files out of reach the index is
    believed.
    """
    wanted = list(sop_uids)
    found = indexing.known(session, wanted)
    lost = [
        copy.file_id
        for of_one in found.values()
        for copy in of_one.good
        if not is_there(copy.root, copy.path, copy.size_bytes)
    ]
    return indexing.known(session, wanted) if mark_lost(session, lost, device_name) else found


def is_there(root: str, path: str, size_bytes: int) -> bool:
    """Tell whether a file can be seen with its size; if not, its disk may be elsewhere, or hang.

    Args:
        root: of its file system.
        path: absolute.
        size_bytes: as the index has it.
    """
    try:
        return answers.ask(root, lambda: _finding(Path(path), size_bytes)) is None
    except errors.NoAnswer:
        return False


def mark_lost(session: Session, file_ids: Collection[int], device_name: str) -> bool:
    """Mark those of these files as MISSING, DIFFERS or UNREADABLE that are not on their disk with their size.

    Those whose file system the device does not mount, or not now, stay as they are. Locks the studies of those
    that it marks, as every writer does first.

    Returns:
        Whether one is lost.
    """
    if not file_ids:
        return False
    lost = [(row, status) for row in _of(session, file_ids) if (status := _status_of(row, device_name)) is not None]
    rows.lock_studies(session, {row.study_uid for row, _ in lost})
    for row, status in lost:
        good = (model.File.id == row.File.id, model.File.status.in_(model.GOOD_FILES))
        marked = update(model.File).where(*good).values(status=status)
        # Another process may have marked it, or the deleter have taken it away, before we had the study.
        if session.scalar(marked.returning(model.File.id)) is not None:
            _log.warning("file lost", file=row.File.id, root=row.FileSystem.path, path=row.File.path, status=status)
    return bool(lost)


def _of(session: Session, file_ids: Collection[int]) -> Iterable[Row[model.File, model.FileSystem, str]]:
    return session.execute(
        select(model.File, model.FileSystem, model.Study.study_uid)
        .join(model.FileSystem, model.FileSystem.id == model.File.file_system_id)
        .join(model.Instance, model.Instance.id == model.File.instance_id)
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .join(model.Study, model.Study.id == model.Series.study_id)
        .where(model.File.id.in_(file_ids))
        .order_by(model.File.id)
    ).all()


def _status_of(row: Row[model.File, model.FileSystem, str], device_name: str) -> model.FileStatus | None:
    """Return what is wrong with a file; None: nothing, or its disk is not within reach."""
    file, file_system, _ = row
    if not file_systems.reachable_by(file_system, device_name) or health.marker_problem_of(file_system) is not None:
        return None
    root = Path(file_system.path)
    try:
        found = answers.ask(root, lambda: _finding(files.within(root, file.path), file.size_bytes))
    except errors.UnsafePath:
        return model.FileStatus.UNREADABLE
    except errors.NoAnswer:
        return None
    # It may have been unmounted just before the file was looked for.
    return None if found is not None and health.marker_problem_of(file_system) is not None else found


def _finding(path: Path, size_bytes: int) -> model.FileStatus | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return model.FileStatus.MISSING
    except OSError:
        return model.FileStatus.UNREADABLE
    is_same = stat.S_ISREG(found.st_mode) and found.st_size == size_bytes
    return None if is_same else model.FileStatus.DIFFERS
