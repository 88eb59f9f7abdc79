"""Look at the disks before a study leaves one of them: are they healthy, and are the other copies really there?"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive import db, errors, model
from archive.storage import files, health, reports
from archive.storage.deletion_facts import Disks
from archive.storage.file_systems import reachable_by

#: Files between two looks at whether to go on.
_BATCH = 200


def look_at_copies(study_uid: str, system: model.FileSystem, device_name: str, check: Callable[[], None]) -> Disks:
    """Return which copies elsewhere of a study's objects on a file system are there, with their size.

    What this device mounts it looks at itself. What it does not mount counts by the row of the copy, but only as
    long as its owner reports the file system as healthy. `check` is called now and then, and may raise.
    """
    with db.transaction() as session:
        systems = {one.id: one for one in session.scalars(select(model.FileSystem)).all()}
        problems = reports.problems(session, systems.values())
        copies = _copies_elsewhere(session, study_uid, system.id)
    mounted = {one.id for one in systems.values() if reachable_by(one, device_name)}
    for number in mounted & {copy.file_system_id for copy in copies}:
        problems[number] = health.marker_problem_of(systems[number])
    problems[system.id] = health.problem_of(system)
    seen, missing = set(), []
    for place, copy in enumerate(copies):
        if place % _BATCH == 0:
            check()
        finding = None
        if copy.file_system_id in mounted and problems[copy.file_system_id] is None:
            finding = _not_there(Path(systems[copy.file_system_id].path), copy)
        if finding is None:
            seen.add(copy.id)
        else:
            missing.append(finding)
    return Disks(problems, frozenset(seen), tuple(missing))


class _Copy(NamedTuple):
    id: int
    file_system_id: int
    path: str
    size_bytes: int


def _copies_elsewhere(session: Session, study_uid: str, file_system_id: int) -> list[_Copy]:
    here = select(model.File.instance_id).where(model.File.file_system_id == file_system_id)
    rows = session.execute(
        select(model.File.id, model.File.file_system_id, model.File.path, model.File.size_bytes)
        .join(model.Instance, model.Instance.id == model.File.instance_id)
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .join(model.Study, model.Study.id == model.Series.study_id)
        .where(
            model.Study.study_uid == study_uid,
            model.File.file_system_id != file_system_id,
            model.File.status.in_(model.GOOD_FILES),
            model.File.instance_id.in_(here),
        )
    )
    return [_Copy(*row) for row in rows]


def _not_there(root: Path, copy: _Copy) -> str | None:
    """Return why a copy does not count, None if the file is there with its size."""
    path = root / copy.path
    try:
        found = files.within(root, copy.path).stat()
    except errors.UnsafePath as exc:
        return str(exc)
    except OSError as exc:
        return f"{path}: {exc.strerror or exc}"
    if not stat.S_ISREG(found.st_mode) or found.st_size != copy.size_bytes:
        return f"{path}: {found.st_size} bytes, expected {copy.size_bytes}"
    return None
