"""Whether the files of a study are what the index says: there, of their size, readable, with their digest."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import cast

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from archive import errors, model
from archive.query import Entity
from archive.storage import file_systems, files, health, rows

_log = structlog.get_logger()

#: Bytes that are in memory at once.
_CHUNK = 1 << 20


class Policy(StrEnum):
    """How closely a file is looked at. Source: StorageVerificationPolicy of dcm4chee-arc-light."""

    #: The index knows it.
    DB_RECORD_EXISTS = "DB_RECORD_EXISTS"
    #: It is there.
    OBJECT_EXISTS = "OBJECT_EXISTS"
    #: It has its size.
    OBJECT_SIZE = "OBJECT_SIZE"
    #: All of it can be read.
    OBJECT_FETCH = "OBJECT_FETCH"
    #: It has its digest.
    OBJECT_CHECKSUM = "OBJECT_CHECKSUM"


@dataclass(frozen=True, slots=True)
class Copy:
    """A file as the index knows it."""

    file_id: int
    sop_uid: str
    root: Path
    relative: str
    size_bytes: int
    sha256: str
    status: model.FileStatus


@dataclass(frozen=True, slots=True)
class Holding:
    """What the index knows of an entity, as one device can look at it."""

    #: On file systems that the device mounts.
    copies: tuple[Copy, ...]
    #: Objects that have files only where the device does not reach, with where that is.
    out_of_reach: dict[str, str]
    #: Objects without any file.
    without_file: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at a file said; `status` None: it is good."""

    copy: Copy
    status: model.FileStatus | None
    text: str | None = None


def holding(session: Session, entity: Entity, device_name: str, groups: Collection[str] = ()) -> Holding:
    """Return what there is to be looked at.

    Args:
        session: the transaction.
        entity: study, series or object.
        device_name: who looks.
        groups: only on file systems of these file-system groups; none: all of them.

    Raises:
        NotMounted: a file system that the device mounts is not there now; its files cannot be judged.
    """
    wanted = (
        select(model.Instance.sop_uid, model.File, model.FileSystem)
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .join(model.Study, model.Study.id == model.Series.study_id)
        .outerjoin(model.File, model.File.instance_id == model.Instance.id)
        .outerjoin(model.FileSystem, model.FileSystem.id == model.File.file_system_id)
        .where(model.Study.study_uid == entity.study_uid)
        .order_by(model.Instance.id, model.File.id)
    )
    if entity.series_uid is not None:
        wanted = wanted.where(model.Series.series_uid == entity.series_uid)
    if entity.sop_uid is not None:
        wanted = wanted.where(model.Instance.sop_uid == entity.sop_uid)
    copies: list[Copy] = []
    elsewhere: dict[str, str] = {}
    without: list[str] = []
    seen: dict[int, model.FileSystem] = {}
    found = cast("Iterable[tuple[str, model.File | None, model.FileSystem | None]]", session.execute(wanted))
    for sop_uid, file, file_system in found:
        if file is None or file_system is None:
            without.append(sop_uid)
        elif groups and file_system.group_id not in groups:
            continue
        elif file_systems.reachable_by(file_system, device_name):
            seen[file_system.id] = file_system
            copies.append(_copy(sop_uid, file, file_system))
        else:
            elsewhere[sop_uid] = f"{file_system.path} ({file_system.owner_device})"
    _check_mounted(seen.values())
    reached = {copy.sop_uid for copy in copies}
    out = {sop_uid: place for sop_uid, place in elsewhere.items() if sop_uid not in reached}
    return Holding(tuple(copies), out, () if groups else tuple(without))


def look(copy: Copy, policy: Policy, going_on: Callable[[], None]) -> Verdict:
    """Look at a file.

    Args:
        copy: the file.
        policy: how closely.
        going_on: called between parts of a large file; what it raises ends the look.
    """
    if policy is Policy.DB_RECORD_EXISTS:
        return Verdict(copy, None)
    try:
        path = files.within(copy.root, copy.relative)
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Verdict(copy, model.FileStatus.MISSING, f"{copy.root / copy.relative} is not there")
    except (OSError, errors.UnsafePath) as error:
        return Verdict(copy, model.FileStatus.UNREADABLE, f"{copy.root / copy.relative}: {error}")
    if policy is Policy.OBJECT_EXISTS:
        return Verdict(copy, None)
    if not stat.S_ISREG(found.st_mode) or found.st_size != copy.size_bytes:
        said = f"{path} has {found.st_size} bytes, expected {copy.size_bytes}"
        return Verdict(copy, model.FileStatus.DIFFERS, said)
    return Verdict(copy, None) if policy is Policy.OBJECT_SIZE else _read(copy, path, policy, going_on)


def _read(copy: Copy, path: Path, policy: Policy, going_on: Callable[[], None]) -> Verdict:
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with path.open("rb", buffering=0) as file:
            # What was read once need not push out of memory what is used.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while chunk := file.read(_CHUNK):
                going_on()
                size_bytes += len(chunk)
                if policy is Policy.OBJECT_CHECKSUM:
                    digest.update(chunk)
    except OSError as error:
        return Verdict(copy, model.FileStatus.UNREADABLE, f"{path} cannot be read: {os.strerror(error.errno or 0)}")
    if size_bytes != copy.size_bytes:
        said = f"{path} has {size_bytes} bytes, expected {copy.size_bytes}"
        return Verdict(copy, model.FileStatus.DIFFERS, said)
    if policy is Policy.OBJECT_CHECKSUM and digest.hexdigest() != copy.sha256:
        return Verdict(copy, model.FileStatus.DIFFERS, f"{path} has another digest than the index")
    return Verdict(copy, None)


def still_known(session: Session, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return those whose file the index still has in its place: others were deleted while they were looked at.

    Raises:
        NotMounted: a file system has gone meanwhile, so that nothing can be said of its files.
    """
    wanted = {verdict.copy.file_id: verdict for verdict in verdicts}
    rows_ = session.execute(
        select(model.File.id, model.FileSystem)
        .join(model.FileSystem, model.FileSystem.id == model.File.file_system_id)
        .where(model.File.id.in_(wanted))
        .order_by(model.File.id)
    ).all()
    _check_mounted({file_system.id: file_system for _, file_system in rows_}.values())
    return [wanted[file_id] for file_id, _ in rows_]


def note(session: Session, study_uid: str, verdicts: Sequence[Verdict], policy: Policy) -> int:
    """Write what was seen to the index: what is wrong is marked, what is right again counts again.

    A file that was bad is good only when its digest was compared.

    Returns:
        How many files have another status than before.
    """
    rows.lock_studies(session, [study_uid])
    changed = 0
    for verdict in verdicts:
        copy, found = verdict.copy, verdict.status
        was_bad = copy.status not in model.GOOD_FILES
        if found is None and was_bad and policy is Policy.OBJECT_CHECKSUM:
            found = model.FileStatus.DEFAULT
        if found is None or found == copy.status:
            continue
        same = (model.File.id == copy.file_id, model.File.status == copy.status)
        if session.scalar(update(model.File).where(*same).values(status=found).returning(model.File.id)) is not None:
            changed += 1
            _log.warning("file verified", file=copy.file_id, root=str(copy.root), path=copy.relative, status=found)
    if policy is Policy.OBJECT_CHECKSUM:
        good = [verdict.copy.file_id for verdict in verdicts if verdict.status is None]
        session.execute(update(model.File).where(model.File.id.in_(good)).values(checked_at=_now(session)))
    return changed


def _now(session: Session) -> datetime:
    return session.scalars(select(func.now())).one()


def _copy(sop_uid: str, file: model.File, file_system: model.FileSystem) -> Copy:
    return Copy(
        file.id, sop_uid, Path(file_system.path), file.path, file.size_bytes, file.sha256,
        model.FileStatus(file.status),
    )  # fmt: skip


def _check_mounted(seen: Collection[model.FileSystem]) -> None:
    for file_system in seen:
        problem = health.marker_problem_of(file_system)
        if problem is not None:
            raise errors.NotMounted(problem)
