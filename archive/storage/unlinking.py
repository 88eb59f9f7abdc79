"""The unlink list worked off: files that no row names leave the disk, then their entries leave the list."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from archive import db, errors, model
from archive.storage import answers, files, health
from archive.storage.answers import Sort

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


def clear_unfinished(device_name: str) -> Cleared:
    """Make disk and index agree again after writers or deleters of a device have died."""
    entry, owned = model.Unlink, model.FileSystem
    is_due = entry.next_attempt_at <= func.now()
    with db.transaction() as session:
        has_due = select(entry.id).where(entry.file_system_id == owned.id, is_due).exists()
        file_systems = session.scalars(select(owned).where(owned.owner_device == device_name, has_due)).all()
    total = Cleared()
    for file_system in file_systems:
        problem = health.problem_of(file_system)
        total = total.plus(Cleared(skipped=(problem,)) if problem else _clear(file_system, is_due))
    return total


def clear_entries(file_system: model.FileSystem, entry_ids: Collection[int]) -> Cleared:
    """Work off these entries of a file system, those of files in the making too."""
    return _clear(file_system, model.Unlink.id.in_(entry_ids))


def _clear(file_system: model.FileSystem, which: ColumnElement[bool]) -> Cleared:
    """Work off entries batch by batch, each tried once, while the file system is what its row says."""
    total, last = Cleared(), 0
    while not total.skipped and (batch := _take(file_system, which, last)):
        last = batch[-1]
        problem = health.marker_problem_of(file_system)
        total = total.plus(Cleared(skipped=(problem,)) if problem else _unlink(file_system, batch))
    return total


def _take(file_system: model.FileSystem, which: ColumnElement[bool], after: int) -> list[int]:
    """Choose the next entries; those of files in the making are taken from their writers.

    This is committed before a file is touched: if what follows is cut off, no writer finds its entry as it was and
    indexes a file that is gone.
    """
    entry = model.Unlink
    with db.transaction() as session:
        chosen = session.execute(
            select(entry.id, entry.reason)
            .where(entry.file_system_id == file_system.id, entry.id > after, which)
            .order_by(entry.id)
            .limit(_BATCH)
            .with_for_update(skip_locked=True)
        ).all()
        in_the_making = [row.id for row in chosen if row.reason is model.UnlinkReason.STORING]
        if in_the_making:
            taken = update(entry).where(entry.id.in_(in_the_making))
            session.execute(taken.values(reason=model.UnlinkReason.STRAY, next_attempt_at=func.now()))
    return [row.id for row in chosen]


def _unlink(file_system: model.FileSystem, batch: Collection[int]) -> Cleared:
    """Unlink the files of entries that were taken, then drop the entries whose files are gone for good."""
    chosen = select(model.Unlink).where(model.Unlink.id.in_(batch)).order_by(model.Unlink.id)
    with db.transaction() as session:
        entries = session.scalars(chosen.with_for_update(skip_locked=True)).all()
        kept = _kept(session, file_system, entries)
        root, paths = Path(file_system.path), {entry.id: entry.path for entry in entries if entry.path not in kept}
        try:
            # One that goes on after it was given up does what is to be done anyway: no path is used twice.
            removed, refused = answers.ask(root, lambda: _remove(root, paths), Sort.UNLINK)
        except errors.NoAnswer as exc:
            return Cleared(skipped=(str(exc),))
        problem = health.marker_problem_of(file_system)
        if problem is not None:  # The disk has gone meanwhile: a file that was not there may be on it.
            return Cleared(files=removed, skipped=(problem,))
        for entry in entries:
            if entry.id in refused:
                _postpone(entry, refused[entry.id])
        done = [entry.id for entry in entries if entry.id not in refused]
        session.execute(delete(model.Unlink).where(model.Unlink.id.in_(done)))
    return Cleared(files=removed, entries=len(done), failed=len(refused))


def _kept(session: Session, file_system: model.FileSystem, entries: Collection[model.Unlink]) -> set[str]:
    """Return the paths that a file row names: these files stay, whatever the list says."""
    paths = [entry.path for entry in entries]
    named = select(model.File.path).where(model.File.file_system_id == file_system.id, model.File.path.in_(paths))
    return set(session.scalars(named))


def _remove(root: Path, paths: Mapping[int, str]) -> tuple[int, dict[int, str]]:
    """Unlink files for good; return how many were there, and what the disk said to those that stay, by entry."""
    removed, refused, unsynced = 0, dict[int, str](), set[Path]()
    for number, path in paths.items():
        try:
            removed += files.remove(root, path, unsynced=unsynced)
        except errors.StorageError as exc:
            refused[number] = str(exc)
    try:
        files.sync_remaining(root, unsynced)
    except errors.StorageError as exc:
        refused = {number: str(exc) for number in paths} | refused
    return removed, refused


def _postpone(entry: model.Unlink, problem: str) -> None:
    entry.attempts += 1
    entry.next_attempt_at = func.now() + min(_FIRST_PAUSE * 2 ** min(entry.attempts - 1, 20), _LONGEST_PAUSE)
    entry.error = problem
