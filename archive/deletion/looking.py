"""Look at the disks before a study leaves one of them: are they healthy, and are the other copies really there?"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Update, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from archive import db, errors, model
from archive.deletion import gathering, reports
from archive.deletion.gathering import Disks
from archive.storage import answers, files, health
from archive.storage.file_systems import reachable_by

#: Copies whose findings are noted at once.
_BATCH = 200


def look_at_copies(study_uid: str, system: model.FileSystem, device_name: str, check: Callable[[], None]) -> Disks:
    """Return which copies elsewhere of a study's objects on a file system are there, with their bytes.

    What this device mounts it looks at itself, and reads what was not verified lately; what it finds is noted in the
    index. What it does not mount counts only if it was verified lately, and its owner reports the file system as
    healthy. `check` is called between files and while one is read, and may raise.
    """
    with db.transaction() as session:
        systems = {one.id: one for one in session.scalars(select(model.FileSystem)).all()}
        problems = reports.problems(session, systems.values())
        copies = _copies_elsewhere(session, study_uid, system.id)
    mounted = {one.id for one in systems.values() if reachable_by(one, device_name)}
    for number in mounted & {copy.file_system_id for copy in copies}:
        problems[number] = health.marker_problem_of(systems[number])
    problems[system.id] = health.problem_of(system)
    seen: set[int] = set()
    missing: list[str] = []
    for first in range(0, len(copies), _BATCH):
        batch = copies[first : first + _BATCH]
        looked = [copy for copy in batch if copy.file_system_id in mounted and problems[copy.file_system_id] is None]
        found = [_look(copy, systems[copy.file_system_id], system, check) for copy in looked]
        for number in {one.copy.file_system_id for one in found if one.problem is not None}:
            # Where the disk went away meanwhile, nothing is known of its files.
            problems[number] = health.marker_problem_of(systems[number])
        sure = [one for one in found if problems[one.copy.file_system_id] is None]
        _note(sure)
        seen.update(one.copy.id for one in sure if one.problem is None)
        missing += [one.problem for one in sure if one.problem is not None]
        for copy in batch:
            if copy.file_system_id not in mounted and copy.is_verified:
                seen.add(copy.id)
            elif copy.file_system_id not in mounted:
                missing.append(_unverified(copy, systems[copy.file_system_id], device_name))
    return Disks(problems, frozenset(seen), tuple(missing), frozenset(systems.keys() - mounted))


class _Copy(NamedTuple):
    id: int
    file_system_id: int
    path: str
    size_bytes: int
    sha256: str
    is_verified: bool
    #: Path of the file that shall go.
    ours: str


class _Found(NamedTuple):
    copy: _Copy
    #: Why it does not count; None: it does.
    problem: str | None = None
    #: What the index shall say of it; None: what it says.
    status: model.FileStatus | None = None
    #: Its bytes were read and are right.
    was_read: bool = False


def _copies_elsewhere(session: Session, study_uid: str, file_system_id: int) -> list[_Copy]:
    """Return the copies that count if they are on disk: those with the bytes of ours, any where ours is broken."""
    ours = aliased(model.File)
    rows = session.execute(
        select(
            model.File.id, model.File.file_system_id, model.File.path, model.File.size_bytes, model.File.sha256,
            func.coalesce(gathering.is_verified(), False), ours.path,
        )
        .join(ours, ours.instance_id == model.File.instance_id)
        .join(model.Instance, model.Instance.id == model.File.instance_id)
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .join(model.Study, model.Study.id == model.Series.study_id)
        .where(
            model.Study.study_uid == study_uid,
            ours.file_system_id == file_system_id,
            model.File.file_system_id != file_system_id,
            model.File.status.in_(model.GOOD_FILES),
            or_(model.File.sha256 == ours.sha256, ours.status.not_in(model.GOOD_FILES)),
        )
        .order_by(model.File.id)
    )  # fmt: skip
    return [_Copy(*row) for row in rows]


def _look(copy: _Copy, at: model.FileSystem, system: model.FileSystem, check: Callable[[], None]) -> _Found:
    """Look at a copy on a disk that is mounted here; read it if nobody did so lately."""
    check()
    path = Path(at.path) / copy.path
    try:
        found = answers.ask(at.path, lambda: os.lstat(files.within(Path(at.path), copy.path)))
        if not stat.S_ISREG(found.st_mode):
            return _Found(copy, f"{path} is no plain file")
        if found.st_size != copy.size_bytes:
            text = f"{path}: {found.st_size} bytes, expected {copy.size_bytes}"
            return _Found(copy, text, model.FileStatus.DIFFERS)
        if answers.ask(system.path, lambda: _is_same(found, Path(system.path) / copy.ours)):
            return _Found(copy, f"{path} is the file itself that shall go, under another name")
        if copy.is_verified:
            return _Found(copy)
        digest = _digest(path, check)
    except (errors.UnsafePath, errors.NoAnswer) as exc:
        return _Found(copy, str(exc))
    except FileNotFoundError as exc:
        return _Found(copy, f"{path}: {exc.strerror}", model.FileStatus.MISSING)
    except OSError as exc:
        return _Found(copy, f"{path}: {exc.strerror or exc}")
    if digest != copy.sha256:
        return _Found(copy, f"{path} has SHA-256 {digest}, expected {copy.sha256}", model.FileStatus.DIFFERS)
    return _Found(copy, was_read=True)


def _is_same(found: os.stat_result, ours: Path) -> bool:
    # Two names of one file are one copy, whether by a link or by a disk that is mounted twice.
    try:
        return os.path.samestat(found, ours.stat())
    except OSError:
        return False


def _digest(path: Path, check: Callable[[], None]) -> str:
    """Return the SHA-256 of a file that is no link, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            check()
    return digest.hexdigest()


def _unverified(copy: _Copy, at: model.FileSystem, device_name: str) -> str:
    return (
        f"{at.path}/{copy.path} is on a disk that {device_name} does not mount, and its bytes were not verified in the "
        f"last {gathering.VERIFIED_FOR.days} days"
    )


def _note(found: Sequence[_Found]) -> None:
    """Write what was found to the index; rows that others hold just now are left as they are."""
    read = [one.copy.id for one in found if one.was_read]
    bad = {
        status: [one.copy.id for one in found if one.status is status]
        for status in (model.FileStatus.MISSING, model.FileStatus.DIFFERS)
    }
    if not read and not any(bad.values()):
        return
    with db.transaction() as session:
        session.execute(_noting(read).values(checked_at=func.now()))
        for status, ids in bad.items():
            session.execute(_noting(ids).values(status=status))


def _noting(ids: Sequence[int]) -> Update:
    free = (
        select(model.File.id)
        .where(model.File.id.in_(ids), model.File.status.in_(model.GOOD_FILES))
        .order_by(model.File.id)
        .with_for_update(skip_locked=True)
    )
    return update(model.File).where(model.File.id.in_(free)).execution_options(synchronize_session=False)
