"""The unlink list worked off: files that no row names leave the disk, then their entries leave the list."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, and_, delete, func, or_, select
from sqlalchemy.orm import Session

from archive import db, errors, model
from archive.storage import files, health

#: How long a file may be in the making before others take its writer for dead.
STORING_GRACE = timedelta(hours=1)

_BATCH = 200
_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Cleared:
    """What a sweep of the unlink list did."""

    #: Files taken off the disk.
    files: int = 0
    #: Entries taken off the list, also of files that were gone or are kept by a row.
    entries: int = 0
    #: Entries whose file could not be unlinked; they have a later time.
    failed: int = 0
    #: Why file systems were left alone.
    skipped: tuple[str, ...] = ()

    def plus(self, other: Cleared) -> Cleared:
        """Return the sum of two."""
        return Cleared(
            self.files + other.files,
            self.entries + other.entries,
            self.failed + other.failed,
            self.skipped + other.skipped,
        )


def clear_unfinished(device_name: str, *, at_once: bool = False) -> Cleared:
    """Make disk and index agree again after writers or deleters of a device have died.

    `at_once` does not wait until files in the making are stale: for a device none of whose writers runs.
    One that does run loses nothing but that batch, since it finds its entries gone before it commits.
    """
    with db.transaction() as session:
        entry, owned = model.Unlink, model.FileSystem
        has_due = select(entry.id).where(entry.file_system_id == owned.id, _is_due(at_once)).exists()
        file_systems = session.scalars(select(owned).where(owned.owner_device == device_name, has_due)).all()
    total = Cleared()
    for file_system in file_systems:
        problem = health.problem_of(file_system)
        total = total.plus(Cleared(skipped=(problem,)) if problem else _clear(file_system, _is_due(at_once)))
    return total


def clear_entries(file_system: model.FileSystem, entry_ids: Collection[int]) -> Cleared:
    """Work off these entries of a file system that the caller found healthy."""
    return _clear(file_system, model.Unlink.id.in_(entry_ids))


def _is_due(at_once: bool) -> ColumnElement[bool]:
    due = model.Unlink.next_attempt_at <= func.now()
    if not at_once:
        return due
    return or_(due, and_(model.Unlink.reason == model.UnlinkReason.STORING))


def _clear(file_system: model.FileSystem, which: ColumnElement[bool]) -> Cleared:
    """Work off entries batch by batch, each tried once."""
    total, last = Cleared(), 0
    while True:
        with db.transaction() as session:
            entries = session.scalars(
                select(model.Unlink)
                .where(model.Unlink.file_system_id == file_system.id, model.Unlink.id > last, which)
                .order_by(model.Unlink.id)
                .limit(_BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            if not entries:
                return total
            last = entries[-1].id
            total = total.plus(_unlink(session, file_system, entries))


def _unlink(session: Session, file_system: model.FileSystem, entries: Collection[model.Unlink]) -> Cleared:
    """Unlink the files of locked entries; a file that a row names stays, whatever the list says."""
    kept = set(
        session.scalars(
            select(model.File.path).where(
                model.File.file_system_id == file_system.id, model.File.path.in_([e.path for e in entries])
            )
        )
    )
    removed, done = 0, []
    for entry in entries:
        try:
            removed += entry.path not in kept and files.remove(Path(file_system.path), entry.path)
            done.append(entry.id)
        except errors.StorageError as exc:
            pause = min(_FIRST_PAUSE * 2 ** min(entry.attempts, 20), _LONGEST_PAUSE)
            entry.attempts += 1
            entry.next_attempt_at = func.now() + pause
            entry.error = str(exc)
    session.execute(delete(model.Unlink).where(model.Unlink.id.in_(done)))
    return Cleared(files=removed, entries=len(done), failed=len(entries) - len(done))
