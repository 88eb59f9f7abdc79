"""File systems as the database knows them: whether each group has one for new objects, and what their owners report."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import select

from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.words import size, some
from archive import db, model
from archive.deletion import reports
from archive.errors import NotConfigured
from archive.model import FileSystem, FileSystemStatus
from archive.storage import file_systems
from config.device import Device, FileSystemGroup

SAY = Subject("file systems")

#: New objects go to the first, and to the second when it becomes the first.
TAKE_NEW = (FileSystemStatus.CURRENT, FileSystemStatus.WRITABLE)


def owned(devices: Collection[Device]) -> Sequence[FileSystem]:
    """Return the file systems that belong to these devices."""
    mine = FileSystem.owner_device.in_([device.name for device in devices])
    with db.transaction() as session:
        return session.scalars(select(FileSystem).where(mine).order_by(FileSystem.path)).all()


def groups(case: Case) -> Iterator[Finding]:
    """See that each group has file systems, and one for new objects."""
    rows = owned(case.devices())
    for device in case.devices():
        try:
            main = file_systems.storage_group(device).id
        except NotConfigured as error:
            found, do = str(error), "add an arcFileSystemGroup if it is to receive objects"
            yield SAY.note(f"groups of {device.name}", found, do=do, device=device.name)
            main = None
        for group in device.file_system_groups.values():
            held = [row for row in rows if (row.owner_device, row.group_id) == (device.name, group.id)]
            yield from _group(case, device, group, held, is_main=group.id == main)


def reported(case: Case) -> Iterator[Finding]:
    """Say what the owners of file systems last saw of them."""
    rows = owned(case.devices())
    with db.transaction() as session:
        said = reports.problems(session, rows)
        held = {one.file_system_id: one for one in session.scalars(select(model.FileSystemReport))}
    for row in rows:
        report, problem = held.get(row.id), said[row.id]
        what = f"report on {row.path}"
        if problem is None and report is not None:
            room = f"{size(report.free_bytes)} of {size(report.total_bytes)} free"
            yield SAY.ok(what, f"healthy at {report.checked_at:%H:%M:%S %Z}, {room}", device=row.owner_device)
        elif report is not None and report.problem is not None:
            do = "mount or mend it where the worker of its device runs"
            yield SAY.error(what, report.problem, "a healthy file system", do, device=row.owner_device)
        else:
            do = f"arcfleet worker --device {row.owner_device}: it reports within a minute"
            yield SAY.warning(what, problem or "", "a report of its owner", do, device=row.owner_device)


def _group(
    case: Case, device: Device, group: FileSystemGroup, held: Sequence[FileSystem], *, is_main: bool
) -> Iterator[Finding]:
    what = f"group {device.name}/{group.id}"
    configured = [file_systems.root_of(one, case.given.home) for one in group.file_systems]
    known = {row.path for row in held}
    absent = sorted(str(path) for path in configured if str(path) not in known)
    if absent:
        do = f"the DICOM service or an import of {device.name} adds them: arcfleet dicom --device {device.name}"
        found = f"configured, not added yet: {some(absent)}"
        yield SAY.warning(what, found, "all that are configured", do, device=device.name)
    if not held:
        return
    current = next((row for row in held if row.status == FileSystemStatus.CURRENT), None)
    if current is not None:
        yield SAY.ok(what, f"current (RW+) is {current.path}, {len(held)} in all", device=device.name)
        return
    spare = [row.path for row in held if row.status in TAKE_NEW]
    found = f"no current (RW+) file system; {len(spare)} others are writable"
    do = "one of them becomes the current one with the next object" if spare else "give it one that is RW"
    say = SAY.error if is_main and not spare else SAY.warning
    yield say(what, found, "one that is RW+", do, device=device.name)
