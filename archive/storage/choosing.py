"""Which file system of a group takes new objects, and the switch to the next one when it cannot."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from archive import db, errors, model
from archive.storage import answers, health, mounts
from config.device import FileSystemGroup

#: Seconds for which the list of file systems is taken as known; another process may change it meanwhile.
RECHECK_S = 1.0

#: How often a switch is begun anew because others changed the group meanwhile.
_TRIES = 5
_TAKES_OBJECTS = (model.Availability.ONLINE, model.Availability.NEARLINE)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Known:
    """The current file system as it was read."""

    file_system: model.FileSystem
    marker: mounts.Identity
    #: By the monotonic clock, in seconds.
    read_at: float


class Chooser:
    """Knows where the next object of a group of a device goes. Safe to be shared by threads."""

    def __init__(self, device_name: str, group: FileSystemGroup, *, recheck_s: float = RECHECK_S) -> None:
        self.device_name = device_name
        self.group = group
        self._recheck_s = recheck_s
        self._known: _Known | None = None
        self._lock = threading.Lock()
        self._mounts = mounts.Mounts()

    def current(self) -> model.FileSystem:
        """Return the group's current file system, switching to the next one where it takes no objects.

        It is healthy, ONLINE or NEARLINE, and has inodes and more bytes free than the group's minimum.

        Raises:
            NoPlace: no file system of the group is; the text says of each why not.
        """
        known = self._known
        if known is None or not self._is_good(known):
            with self._lock:
                # Another thread may have looked while this one waited; to look again could hang, with the lock.
                known = self._known if self._known is not known else None
                if known is None or not self._is_recent(known):
                    known = self._known = self._find({})
        return known.file_system

    def full(self, refused: Mapping[int, str]) -> model.FileSystem:
        """Return another file system than those that refused an object; switches unless others have.

        Args:
            refused: what each said, by its number.

        Raises:
            NoPlace: no other one takes objects.
        """
        with self._lock:
            known = self._known = self._find(refused)
        return known.file_system

    def require_on(self, file_system: model.FileSystem, disk: int) -> None:
        """See that a file lies on the file system it was written to; costs a few microseconds.

        Args:
            file_system: that `current` or `full` returned.
            disk: on which the file lies, `st_dev` as the file itself says.

        Raises:
            NotMounted: that was unmounted, or another disk mounted there, since.
        """
        self._mounts.require(file_system, disk)

    def require_space(self, file_system: model.FileSystem) -> None:
        """See that the group's minimum is still free on a file system; costs a few microseconds.

        Raises:
            NoSpace: it is not.
        """
        problem = space_problem_of(file_system, self.group)
        if problem is not None:
            raise errors.NoSpace(problem)

    def forget(self) -> None:
        """Read the list anew for the next object: it was changed by this process."""
        self._known = None

    def _find(self, refused: Mapping[int, str]) -> _Known:
        for _ in range(_TRIES):
            rows = _read(self.device_name, self.group.id)
            current = next((row for row in rows if row.status == model.FileSystemStatus.CURRENT), None)
            lacking = dict(refused)
            if current is not None:
                problem = lacking.get(current.id) or self._problem_of(current, probe=False)
                if problem is None:
                    return _known(current)
                lacking[current.id] = problem
            chosen = self._next(rows, current, lacking)
            if self._switch(current, chosen, lacking):
                chosen.status = model.FileSystemStatus.CURRENT
                return _known(chosen)
        raise errors.NoPlace(f"{self._name()} was changed by others {_TRIES} times while it was looked at")

    def _next(
        self, rows: Sequence[model.FileSystem], current: model.FileSystem | None, lacking: dict[int, str]
    ) -> model.FileSystem:
        """Return the first one in turn that takes objects; `lacking` gets what the others lack."""
        linked = list(chain_after(rows, current))
        apart = [row for row in rows if row not in linked and row is not current]
        for row in (*linked, *apart):
            problem = lacking.get(row.id) or _status_problem_of(row) or self._problem_of(row, probe=True)
            if problem is None:
                if current is not None and row in apart:
                    _log.warning("file system is not linked", group=self.group.id, path=row.path, after=current.path)
                return row
            lacking[row.id] = problem
        said = "; ".join(lacking[row.id] for row in rows)
        raise errors.NoPlace(f"{self._name()} has no place for new objects: {said or 'it has no file system'}")

    def _problem_of(self, row: model.FileSystem, *, probe: bool) -> str | None:
        if row.availability not in _TAKES_OBJECTS:
            return f"File system {row.path}: is {row.availability}, expected ONLINE or NEARLINE"
        unhealthy = health.problem_of(row) if probe else health.marker_problem_of(row)
        if unhealthy is not None:
            return unhealthy
        try:
            return answers.ask(row.path, lambda: space_problem_of(row, self.group))
        except errors.NoAnswer as exc:
            return str(exc)

    def _is_good(self, known: _Known) -> bool:
        """Tell whether a file system is what it was when it was read; costs a few microseconds."""
        root = known.file_system.path
        return (
            self._is_recent(known)
            and not answers.hangs(root)
            and mounts.identity(root) == known.marker
            and not os.path.lexists(f"{root}/{health.MOUNT_FAILED}")
            and space_problem_of(known.file_system, self.group) is None
        )

    def _is_recent(self, known: _Known) -> bool:
        return time.monotonic() - known.read_at < self._recheck_s

    def _switch(self, old: model.FileSystem | None, new: model.FileSystem, lacking: dict[int, str]) -> bool:
        """Make another file system the current one, unless the group was changed since it was read."""
        with db.transaction() as session:
            rows = {row.id: row for row in _locked(session, self.device_name, self.group.id)}
            current = next((row for row in rows.values() if row.status == model.FileSystemStatus.CURRENT), None)
            is_as_read = (current and current.id) == (old and old.id)
            if not is_as_read or new.id not in rows or rows[new.id].status != model.FileSystemStatus.WRITABLE:
                return False
            if old is not None:
                _set_status(session, old.id, model.FileSystemStatus.WRITABLE)
            _set_status(session, new.id, model.FileSystemStatus.CURRENT)
        _log.warning(
            "file system switched", device=self.device_name, group=self.group.id, new=new.path,
            old=old and old.path, why=old and lacking[old.id],
        )  # fmt: skip
        return True

    def _name(self) -> str:
        return f"Group {self.group.id} of device {self.device_name}"


def space_problem_of(row: model.FileSystem, group: FileSystemGroup) -> str | None:
    """Return why a file system has no room for an object by the rules of its group, None if it has."""
    try:
        found = os.statvfs(row.path)
    except OSError as exc:
        return f"File system {row.path}: its free space cannot be read: {exc.strerror}"
    minimum = group.minimum_free_disk_space
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if minimum is not None and free < minimum.bytes_of(total):
        return f"File system {row.path}: {free} bytes are free, expected {minimum.text}"
    # File systems that make inodes as they need them count none.
    if found.f_files and not found.f_favail:
        return f"File system {row.path}: no inode is free"
    return None


def chain_after(rows: Sequence[model.FileSystem], current: model.FileSystem | None) -> Iterator[model.FileSystem]:
    """Yield the others of a group's chain in the order in which they are switched to, each once.

    Along the links from the current one, at an open end on from the head. Without a current one: all, oldest first.
    """
    if current is None:
        yield from rows
        return
    by_id = {row.id: row for row in rows}
    seen = {current.id}
    for start in (current, _head(rows, current)):
        if start.id not in seen:
            seen.add(start.id)
            yield start
        row = start
        while row.next_id in by_id:
            row = by_id[row.next_id]
            if row.id in seen:
                break
            seen.add(row.id)
            yield row


def _head(rows: Sequence[model.FileSystem], current: model.FileSystem) -> model.FileSystem:
    """Follow the links back to the first one, or around a ring once."""
    head, seen = current, {current.id}
    while before := next((row for row in rows if row.next_id == head.id and row.id not in seen), None):
        seen.add(before.id)
        head = before
    return head


def _status_problem_of(row: model.FileSystem) -> str | None:
    is_writable = row.status == model.FileSystemStatus.WRITABLE
    return None if is_writable else f"File system {row.path}: its status is {row.status}, expected RW"


def _known(file_system: model.FileSystem) -> _Known:
    root = file_system.path
    return _Known(file_system, answers.ask(root, lambda: mounts.identity(root)), time.monotonic())


def _read(device_name: str, group_id: str) -> list[model.FileSystem]:
    with db.transaction() as session:
        found = session.scalars(_of_group(device_name, group_id)).all()
        session.expunge_all()
    return list(found)


def _locked(session: Session, device_name: str, group_id: str) -> Sequence[model.FileSystem]:
    """Return the file systems of a group, kept from other switches but not from new files to the end."""
    return session.scalars(_of_group(device_name, group_id).with_for_update(key_share=True)).all()


def _of_group(device_name: str, group_id: str) -> Select[Any]:
    return (
        select(model.FileSystem)
        .where(model.FileSystem.owner_device == device_name, model.FileSystem.group_id == group_id)
        .order_by(model.FileSystem.id)
    )


def _set_status(session: Session, file_system_id: int, status: model.FileSystemStatus) -> None:
    session.execute(update(model.FileSystem).where(model.FileSystem.id == file_system_id).values(status=status))
